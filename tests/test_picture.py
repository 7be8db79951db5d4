"""The picture in the README is what the commands print today."""

from __future__ import annotations

import runpy

from tests.proofs.harness import ROOT


def test_the_picture_is_drawn_from_what_is_printed() -> None:
    drawn = runpy.run_path(str(ROOT / "scripts" / "picture.py"))["drawn"]()
    shown = (ROOT / "terminal.svg").read_text(encoding="utf-8")
    assert shown == drawn + "\n", "run `python scripts/picture.py`"
    assert "fastapi-transaction-scope" in shown
    assert "@font-face" not in shown
