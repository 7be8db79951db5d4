"""Packs of other people, without a model: what they know is found, and on the rest they are silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.finding.queries import FOLDER
from packlore.find import foreign
from packlore.find.learn import read_asked
from packlore.library import Library
from tests.find.terraform import COVERED, FOREIGN, RULES, terraform
from tests.packs import own
from tests.proofs.harness import ROOT

EARLIER = FOLDER / "earlier.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return terraform(tmp_path_factory.mktemp("terraform"))


def test_what_six_rules_cover_comes_first_and_the_rest_gets_nothing(folder: Path) -> None:
    library = Library.open([folder])
    assert {query: [hit.item.id for hit in library.search(query)][:1] for query in COVERED} == {
        query: [rule] for query, rule in COVERED.items()
    }
    assert {query: library.search(query) for query in FOREIGN} == dict.fromkeys(FOREIGN, ())


def test_a_list_of_what_nobody_covers_is_far_from_every_pack(folder: Path, tmp_path: Path) -> None:
    """Some are let through: a pack may be about them."""
    for library in (Library.open([folder]), Library.open([own(tmp_path)])):
        answered = [each for each in foreign.QUERIES if library.search(each)]
        assert len(answered) <= 3, answered


@pytest.mark.parametrize("name", RULES)
def test_a_pack_of_one_rule_finds_it_by_its_title(name: str, tmp_path: Path) -> None:
    folder = terraform(tmp_path)
    for other in {*RULES} - {name}:
        (folder / "rules" / f"{other}.md").unlink()
    library = Library.open([folder])
    assert [hit.item.id for hit in library.search(RULES[name][0])][:1] == [name]
    assert library.search("how to bake bread") == ()


def test_a_second_pack_changes_nothing_in_the_first(folder: Path) -> None:
    alone, both = Library.open([ROOT]), Library.open([ROOT, folder])
    (ours,) = alone.packs
    queries = [each.query for each in read_asked(EARLIER.read_text("utf-8"))][::6]
    for query in (*FOREIGN, *foreign.QUERIES, *COVERED, *queries):
        told = [hit.item.id for hit in alone.search(query)][:1]
        beside = [hit.item.id for hit in both.search(query, limit=20) if hit.pack == ours][:1]
        assert beside == told, query
        near = [each for each in both.index.candidates(query) if each.entry.pack == ours]
        assert near == alone.index.candidates(query), query
