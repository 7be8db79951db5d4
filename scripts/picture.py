"""Draws terminal.svg, which the README shows: what `packlore check` and `packlore show` print for a
rule's own Incorrect block. `python scripts/picture.py`; a test fails where the picture is stale."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
RULE = "fastapi-transaction-scope"
WIDTH = 92
"""Characters of a line."""
SHOWN = 30
"""Lines of the rule."""
FONTS = re.compile(r"@font-face \{\{.*?\}\}", re.DOTALL)
"""Which a picture on a page may not fetch anyway."""


def said(*arguments: str | Path, cwd: Path) -> str:
    """What a command of packlore prints at a terminal of WIDTH."""
    environ = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm", "PACKLORE_PACK": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "packlore", *arguments],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(ROOT / "server")},
        capture_output=True,
        check=False,  # to find something is 1
        text=True,
        encoding="utf-8",
    )
    return done.stdout


def incorrect() -> str:
    """The rule's Incorrect block."""
    text = (ROOT / "rules" / f"{RULE}.md").read_text("utf-8")
    (block,) = re.findall(
        r"^## Incorrect[^`]*^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    return str(block)


def drawn() -> str:
    """The picture."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app")
        app.mkdir()
        (app / "orders.py").write_text(incorrect(), encoding="utf-8")
        checked = said("check", "app", cwd=Path(folder))
        shown = said("show", "--brief", RULE, "--color", "always", cwd=Path(folder))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), legacy_windows=False)
    for command, text in (
        ("packlore check app", checked),
        (f"packlore show --brief {RULE}", "\n".join(shown.split("\n")[:SHOWN])),
    ):
        console.print(Text(f"$ {command}", style="bold green"))
        console.print(Text.from_ansi(text.rstrip()))
        console.print()
    return console.export_svg(title="packlore", code_format=FONTS.sub("", CONSOLE_SVG_FORMAT))


if __name__ == "__main__":
    (ROOT / "terminal.svg").write_text(drawn() + "\n", encoding="utf-8")
