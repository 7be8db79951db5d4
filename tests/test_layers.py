"""Imports run one way, packages keep their insides, and what is costly is imported where it is
used."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys

import pytest

from tests.proofs.harness import ROOT

PACKAGE = ROOT / "server" / "packlore"
# Each may import those of the rows above it, and of another package only what its `__init__`
# exports. What stands in one row does not know its neighbours.
FLOORS = (
    ("errors",),
    ("locate", "pack"),
    ("find", "check", "project"),
    ("names",),
    ("library", "author"),
    ("outline", "render"),
    ("answers",),
    ("serve",),
    ("cli",),
)
# Inside a package the same: each module may import those of the rows above it.
INSIDE = {
    "pack": (
        ("model", "markdown", "starter", "values", "write"),
        ("frontmatter",),
        ("parse",),
        ("categories",),
        ("assemble", "form", "scaffold"),
        ("read", "lint"),
        ("build",),
    ),
    "find": (
        ("terms", "fields", "filter", "foreign", "shapes", "train"),
        ("query", "fulltext", "language", "spelling"),
        ("features", "rank"),
        ("model", "why"),
        ("learn", "part"),
        ("index",),
    ),
    "check": (
        ("edits", "files", "git", "literals", "model", "places", "plain", "syntax"),
        ("baseline", "ignores", "imports", "report", "settings", "sources", "utilities", "words"),
        ("changes", "lookups"),
        ("detectors",),
        ("scan",),
        ("run",),
    ),
    "project": (("versions",), ("locks",), ("folder",), ("note",)),
    "serve": (
        ("held", "log", "pages", "review"),
        ("connections", "stdio", "tools"),
        ("bind", "drain", "skills", "watch"),
        ("requests", "workers"),
        ("server",),
        ("http",),
        ("run",),
    ),
    "cli": (
        ("arguments", "terminal"),
        ("authoring", "checking", "complete", "hooking", "reading", "serving"),
        ("commands",),
    ),
}
WITH_MCP = {"serve.bind", "serve.skills", "serve.server", "serve.stdio", "serve.pages"}
MOST_LINES = 250


def imports(source: str) -> set[str]:
    """Full names of all modules and names that a source imports anywhere, but for type checking
    alone."""
    tree = ast.parse(source)
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
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, str]:
    """Each module by its name below `packlore` and its source, without the files `__init__`."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if not path.stem.startswith("__")
    }


def forbidden(name: str, source: str) -> list[str]:
    """What the module `name` imports and must not."""
    floor, _, inner = name.partition(".")
    below = {each for row in FLOORS[: _row(FLOORS, floor)] for each in row}
    rows = INSIDE.get(floor, ())
    before = {each for row in rows[: _row(rows, inner)] for each in row} if inner else set()
    wrong = []
    for full in sorted(imports(source)):
        top, _, used = full.partition(".")
        if top != "packlore":
            continue
        package, _, what = used.partition(".")
        if package == floor:
            allowed = what.split(".")[0] in before
        elif package in INSIDE:
            exported = importlib.import_module(f"packlore.{package}").__all__
            allowed = package in below and what in exported
        else:
            allowed = package in below
        if not allowed:
            wrong.append(used)
    return wrong


def _row(rows: tuple[tuple[str, ...], ...], name: str) -> int:
    return next(number for number, row in enumerate(rows) if name in row)


def test_every_module_has_its_place() -> None:
    floors = {each for row in FLOORS for each in row}
    assert set(INSIDE) < floors
    alone = floors - set(INSIDE)
    inside = {
        f"{package}.{each}" for package, rows in INSIDE.items() for row in rows for each in row
    }
    assert set(modules()) == alone | inside


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_those_below_it(name: str) -> None:
    assert forbidden(name, modules()[name]) == []


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("errors", "from packlore.pack import Pack"),
        ("locate", "from packlore.pack import read"),
        ("pack.read", "from packlore.find import Index"),
        ("pack.model", "from packlore.pack.parse import parse"),
        ("pack.model", "from packlore.pack.values import string"),
        ("pack.lint", "import packlore.find.model"),
        ("find.index", "from packlore.check import detectors"),
        ("find.index", "from packlore.pack.parse import parse"),
        ("find.terms", "from packlore.library import Library"),
        ("library", "from packlore.author import problems"),
        ("library", "from packlore.find.rank import power"),
        ("render", "from packlore.serve import run"),
        ("serve.tools", "from packlore.cli import main"),
        ("serve.tools", "from packlore.serve.server import PackServer"),
        ("cli.commands", "from packlore.serve.tools import Tools"),
        ("cli.arguments", "from packlore.cli.commands import main"),
        ("cli.terminal", "from packlore.cli.reading import show"),
        ("cli.authoring", "from packlore.cli.reading import show"),
        ("pack.starter", "from packlore.pack.model import Pack"),
        ("pack.scaffold", "from packlore.pack.lint import lint"),
    ],
)
def test_a_planted_import_is_seen(name: str, planted: str) -> None:
    for line in (planted, f"def later():\n    {planted}"):
        assert len(forbidden(name, f"{modules()[name]}\n{line}\n")) == 1


def test_what_an_init_exports_exists() -> None:
    for package in INSIDE:
        module = importlib.import_module(f"packlore.{package}")
        for each in module.__all__:
            if not hasattr(module, each):
                importlib.import_module(f"packlore.{package}.{each}")


def test_what_an_init_exports_is_used_above_it() -> None:
    used = {each for source in modules().values() for each in imports(source)}
    used |= imports((PACKAGE / "__main__.py").read_text())
    for package in INSIDE:
        for each in importlib.import_module(f"packlore.{package}").__all__:
            assert f"packlore.{package}.{each}" in used or f"{package}.{each}" == "cli.main"


def test_each_init_says_what_comes_in_what_goes_out_and_what_it_never_does() -> None:
    for package in INSIDE:
        lines = (importlib.import_module(f"packlore.{package}").__doc__ or "").strip().split("\n")
        assert len(lines) <= 5, package
        assert re.search(r"Comes in: .*Goes out: .*Never: ", " ".join(lines)), package


def test_the_map_in_contributing_is_the_real_one() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- map -->\n(.*?)<!-- /map -->", text, re.DOTALL)
    drawn = {}
    for row in table.strip().split("\n")[2:]:
        name, _, inside = (cell.strip() for cell in row.strip("|").split("|"))
        drawn[name.strip("`")] = [
            sorted(re.findall(r"`(\w+)`", group)) for group in inside.split(";") if group.strip()
        ]
    assert list(drawn) == [each for row in FLOORS for each in sorted(row, key=list(drawn).index)]
    for name, rows in drawn.items():
        assert rows == [sorted(row) for row in INSIDE.get(name, ())], name


def test_no_module_is_two_of_something() -> None:
    long = {name: len(source.splitlines()) for name, source in modules().items()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_only_one_module_knows_ast_grep() -> None:
    using = {
        name
        for name, source in modules().items()
        if any(each.split(".")[0] == "ast_grep_py" for each in imports(source))
    }
    assert using == {"check.syntax"}


def test_only_the_protocol_modules_import_mcp() -> None:
    using = {
        name
        for name, source in modules().items()
        if any(each.split(".")[0] in ("mcp", "mcp_types") for each in imports(source))
    }
    assert using == WITH_MCP


FIELD = re.compile(
    r"fastapi|sqlalchemy|asyncpg|postgres|alembic|greenlet|taskgroup|aiohttp|httpx|redis|pgbouncer",
    re.IGNORECASE,
)


def test_a_server_over_stdio_imports_neither_rich_nor_what_only_http_needs() -> None:
    code = (
        "import sys; from pathlib import Path; from packlore.library import Library\n"
        "from packlore.serve import run\n"
        "run.PackServer(Library.open([Path('.')]))\n"
        "print([name for name in sys.modules if name.startswith(('rich', 'packlore.serve.drain'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_server_knows_no_field() -> None:
    """What a pack is about stands in the pack: any other is served as well."""
    said = {name: FIELD.findall(source) for name, source in modules().items()}
    assert {name: found for name, found in said.items() if found} == {}


def test_only_the_module_for_the_terminal_prints() -> None:
    printing = {
        name
        for name, source in modules().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printing == {"cli.terminal"}


def test_only_the_terminal_imports_rich() -> None:
    using = {
        name
        for name, source in modules().items()
        if any(each.split(".")[0] == "rich" for each in imports(source))
    }
    assert using == {"cli.terminal"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "pool"],
        ["list"],
        ["show", "asyncio-taskgroup"],
        ["lint"],
        ["--version"],
        ["_complete", "2", "packlore", "show", "asyncio"],
    ],
)
def test_the_quick_commands_import_neither_mcp_nor_pydantic_nor_rich(arguments: list[str]) -> None:
    code = (
        "import sys; from packlore.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('mcp', 'pydantic', 'anyio', 'asyncio', 'rich', 'pygments') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
