"""What search weighs of an item, read by lines; held to what a parser of Markdown reads."""

from __future__ import annotations

from pathlib import Path

from packlore.find.fields import fields
from packlore.library import Library
from packlore.pack.model import Rule
from packlore.pack.read import read
from tests.packs import own, rule
from tests.proofs.harness import ROOT


def first(folder: Path) -> Rule:
    return read(folder)[0].rules[0]


def test_code_is_told_from_words(tmp_path: Path) -> None:
    found = fields(first(own(tmp_path)))
    assert "await read_bounded()" in found.code
    assert "await" not in found.prose
    assert "waits for ever" in found.prose
    assert "Exceptions" in found.headings.split("\n")


def test_a_comment_in_code_is_no_heading_and_an_open_fence_runs_to_the_end(tmp_path: Path) -> None:
    text = rule().replace("await read()\n```", "# no heading\n\n~~~\n``` not the end\n````")
    found = fields(first(own(tmp_path, **{"rules__asyncio-timeout.md": text})))
    assert "# no heading" in found.code
    assert "no heading" not in found.headings
    torn = rule().split("await read()")[0] + "await read()"
    found = fields(first(own(tmp_path, **{"rules__asyncio-timeout.md": torn})))
    assert found.code == "await read()\n"


def test_a_document_has_words_and_code_and_other_files_are_code(tmp_path: Path) -> None:
    notes = {"references__notes.md": "# N\n\nW\n\n```\nC\n```\n", "assets__a.py": "x = 1\n"}
    documents = {each.id: fields(each) for each in read(own(tmp_path, **notes))[0].documents}
    found = documents["references/notes.md"]
    assert (found.headings, found.code) == ("N", "C\n")
    assert found.prose.split() == ["#", "N", "W"]
    assert (documents["assets/a.py"].prose, documents["assets/a.py"].code) == ("", "x = 1\n")


def test_in_our_pack_both_ways_of_reading_agree() -> None:
    for entry in Library.open([ROOT]).rules():
        item = entry.item
        found = fields(item)
        fences = [fence.code for section in item.sections for fence in section.fences]
        assert found.code.split() == "\n".join(fences).split(), item.id
        assert found.headings.split("\n") == [section.title for section in item.sections], item.id
