"""Imports run one way, and what is costly is imported only where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT

PACKAGE = ROOT / "server" / "packlore"
# Each module may import those of the rows above it.
LAYERS = (
    ("errors", "model", "terms"),
    ("parse", "locate", "smells", "spelling", "fields", "filter"),
    ("assemble", "query"),
    ("read", "fulltext", "rank", "vocabulary", "form"),
    ("lint", "index"),
    ("library",),
    ("render", "arguments"),
    ("tools", "skills", "build"),
    ("server",),
    ("http", "watch"),
    ("run",),
    ("cli",),
)
WITH_MCP = {"skills", "server"}


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports anywhere, but for type checking alone."""
    tree = ast.parse(path.read_bytes())
    only_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, Path]:
    return {path.stem: path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}


def test_every_module_has_its_layer() -> None:
    assert set(modules()) == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_a_layer_imports_only_those_below_it(number: int) -> None:
    below = {name for layer in LAYERS[:number] for name in layer}
    for name in LAYERS[number]:
        used = {
            each.split(".")[1] for each in imports(modules()[name]) if each.startswith("packlore.")
        }
        used &= set(modules())
        assert used <= below, f"{name} imports {used - below}"


def test_only_the_protocol_modules_import_mcp() -> None:
    using = {
        name
        for name, path in modules().items()
        if any(each.split(".")[0] in ("mcp", "mcp_types") for each in imports(path))
    }
    assert using == WITH_MCP


def test_only_the_command_line_prints() -> None:
    printing = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printing == {"cli"}


@pytest.mark.parametrize(
    "arguments",
    [["search", "pool"], ["list"], ["show", "asyncio-taskgroup"], ["lint"], ["--version"]],
)
def test_the_quick_commands_import_neither_mcp_nor_pydantic(arguments: list[str]) -> None:
    code = (
        "import sys; from packlore.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('mcp', 'pydantic', 'anyio', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
