"""An index of all rules for a project's AGENTS.md: complete, and within its tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore import cli, outline
from packlore.library import Library
from packlore.pack.model import tokens
from tests.packs import own, rule
from tests.proofs.harness import ROOT


def pack(folder: Path, number: int) -> Path:
    """So many rules, the first of the highest impact."""
    files = {
        f"rules__asyncio-rule-{each}.md": rule(
            f"Do number {each} and not what is nearer at hand", impact="LOW" if each else "HIGH"
        )
        for each in range(number)
    }
    return own(folder, **files)


def test_our_rules_are_all_in_it_in_1200_tokens() -> None:
    library = Library.open([ROOT])
    text = outline.outline(library)
    assert tokens(text) <= outline.MOST
    for entry in library.rules():
        assert f"{entry.item.id}" in text.replace(",", " ").replace(":", " ").split()
    assert text.startswith(outline.BEGIN)
    assert text.endswith(f"{outline.END}\n")
    assert text.count(outline.HOW) == 1


def test_the_titles_of_low_impact_go_first_then_all_then_the_ids(tmp_path: Path) -> None:
    library = Library.open([pack(tmp_path / "pack", 40)])
    whole = outline.outline(library, 10_000)
    assert "- asyncio-rule-39: Do number 39" in whole
    fewer = outline.outline(library, tokens(whole) - 1)
    assert "- asyncio-rule-0: Do number 0" in fewer
    assert "Do number 39" not in fewer
    assert "asyncio-rule-39" in fewer
    ids = outline.outline(library, tokens(fewer) - 1)
    assert "Do number" not in ids
    assert "asyncio-rule-39" in ids
    least = outline.outline(library, tokens(ids) - 1)
    assert "asyncio-rule" not in least
    assert "- asyncio, 41 rules: " in least


def test_several_packs_say_once_how_a_rule_is_read(tmp_path: Path) -> None:
    library = Library.open([pack(tmp_path / "a", 1), pack(tmp_path / "b", 2)])
    text = outline.outline(library)
    assert text.count(outline.HOW) == 1
    assert text.count("## Rules of ") == 2


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["agents-md", "--pack", str(ROOT)]) == 0
    assert capsys.readouterr().out == outline.outline(Library.open([ROOT]))
