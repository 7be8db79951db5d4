"""Checks the Python blocks of the pack: all compile, and those to be copied pass ruff and mypy.

`python -m tests.blocks [FILE ...]` prints what is wrong; without files, of the whole pack.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packlore.pack.parse import parse
from tests.proofs.harness import ROOT, Block

FOLDERS = ("rules", "references", "examples", "checklists", "assets")
RUFF_RULES = "E,F,W,I,B,UP,ASYNC,RUF006"
RUFF_IGNORED = "E501,B008"


def pack_files() -> list[Path]:
    """Every Markdown file of the pack, and SKILL.md."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))]
    return [path for path in (ROOT / "SKILL.md", *files) if path.exists()]


def python_blocks(path: Path) -> Iterator[tuple[Block, bool]]:
    """Each Python block of a file, and whether it is one to copy (not an Incorrect one)."""
    name = (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()
    parsed = parse(path.read_bytes().decode(), name)
    wrong = {example.fence.line for example in parsed.examples if not example.correct}
    for section in parsed.sections:
        for fence in section.fences:
            if fence.language in ("python", "py"):
                copied = fence.line not in wrong
                yield Block(name, fence.line, fence.code, copied), copied


def compile_error(block: Block) -> str:
    """Where and why the block does not compile; empty where it does."""
    try:
        compile("\n" * (block.line - 1) + block.code, block.path, "exec")
    except SyntaxError as error:
        return f"{block.path}:{error.lineno}: {error.msg}"
    return ""


def _declarations(block: Block) -> str:
    lines = ["from typing import Any"]
    lines += [
        f"class {name}(Any): ..." if name[0].isupper() else f"{name}: Any" for name in block.given
    ]
    return "\n".join(lines) + "\n"


def check(files: list[Path]) -> list[str]:
    """What the compiler, ruff and mypy say of the blocks to copy; lines are those of the file."""
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        names: dict[str, str] = {}
        for path in files:
            for block, copied in python_blocks(path):
                if error := compile_error(block):
                    problems.append(error)
                if error or not copied:
                    continue
                stem = re.sub(r"\W", "_", f"{block.path}_{block.line}")
                names[f"{stem}.py"] = block.path
                source = "\n" * (block.line - 1) + block.code
                if block.given:
                    given = f"given_{stem}"
                    Path(folder, f"{given}.py").write_text(_declarations(block), encoding="utf-8")
                    stub = f"from {given} import {', '.join(block.given)}  # noqa"
                    source = source.replace("# given:", f"{stub}  # given:", 1)
                Path(folder, f"{stem}.py").write_text(source, encoding="utf-8")
        if not names:
            return problems
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--output-format=concise"]
        ruff += ["--target-version=py311", f"--select={RUFF_RULES}", f"--ignore={RUFF_IGNORED}"]
        mypy = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--ignore-missing-imports"]
        mypy += ["--no-error-summary", "--config-file=", "--disable-error-code=import-untyped"]
        mypy += ["--cache-dir=cache"]  # in `folder`
        for command in (ruff, mypy):
            done = subprocess.run(
                [*command, *names], cwd=folder, capture_output=True, text=True, check=False
            )
            for line in (done.stdout + done.stderr).splitlines():
                file, _, rest = line.partition(":")
                if file in names:
                    problems.append(f"{names[file]}:{rest}")
            assert done.returncode in (0, 1), done.stdout + done.stderr
    return problems


if __name__ == "__main__":
    chosen = [Path(each).resolve() for each in sys.argv[1:]] or pack_files()
    found = check(chosen)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
