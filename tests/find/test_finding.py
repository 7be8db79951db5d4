"""The targets of the search on the half of the queries that nobody tunes to, and a floor for the
other half: a change of ranking, or of a rule's words, must not go below them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from benchmarks.finding.finders import ours
from benchmarks.finding.queries import ASKED, HALVES, PHRASES, load
from packlore.find.learn import ENOUGH, read_asked
from packlore.find.vocabulary import FILE
from packlore.library import Library
from tests.proofs.harness import ROOT

KINDS = {"error", "keywords", "chinese", "question", "misspelt", "code", "symptom", "task"}
FIRST = {
    "report": dict.fromkeys(KINDS, 0.75) | {"all": 0.85, "error": 0.9},
    "tune": dict.fromkeys(KINDS, 0.6) | {"all": 0.85, "error": 0.85},
}
"""The least share of the covered queries, by kind, for which a right rule comes first."""
THIRD, COVERED, UNCOVERED = 0.95, 0.95, 0.15
"""The least share with a right rule among the first three, the least of the covered that get an
answer, and the most of the uncovered that do."""


LEAST = 60
"""Queries for each rule that its vocabulary is counted from."""


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open([ROOT])


def learnt() -> list[str]:
    """The rules that search has learnt; a new one may go by its own words at first."""
    rules: list[str] = json.loads((ROOT / FILE).read_text("utf-8"))["rules"]
    return rules


def test_every_query_names_rules_that_exist(library: Library) -> None:
    named = {rule for half in HALVES for query in load(half) for rule in query.rules}
    assert named == set(learnt()) <= {entry.item.id for entry in library.rules()}


def test_what_is_learnt_from_is_not_what_is_measured_with(library: Library) -> None:
    asked = [each for path in (ASKED, PHRASES) for each in read_asked(path.read_text("utf-8"))]
    measured = {query.text for half in HALVES for query in load(half)}
    assert not measured & {each.query for each in asked}
    counts = Counter(each.rules[0] for each in asked if each.rules)
    assert sorted(rule for rule in counts if counts[rule] >= ENOUGH) == learnt()
    assert min(counts[rule] for rule in learnt()) >= LEAST, min(counts, key=counts.__getitem__)


def test_without_a_vocabulary_nearly_every_query_gets_an_answer(library: Library) -> None:
    (pack,) = library.packs.values()
    bare = replace(pack, files=tuple(file for file in pack.files if file.path != FILE))
    index = Library([bare]).index
    uncovered = [query for query in load("tune") if not query.rules]
    assert sum(bool(index.search(query.text)) for query in uncovered) / len(uncovered) > 0.9


@pytest.mark.parametrize("half", HALVES)
def test_the_right_rule_comes_first_and_nothing_where_nothing_fits(
    half: str, library: Library
) -> None:
    find = ours(library)
    first: dict[str, list[bool]] = defaultdict(list)
    third: list[bool] = []
    covered: list[bool] = []
    uncovered: list[bool] = []
    for query in load(half):
        found = find(query.text)
        if not query.rules:
            uncovered.append(bool(found))
            continue
        covered.append(bool(found))
        third.append(bool(set(found[:3]) & set(query.rules)))
        for kind in (query.kind, "all"):
            first[kind].append(bool(set(found[:1]) & set(query.rules)))
    share = {kind: sum(each) / len(each) for kind, each in first.items()}
    assert set(share) == {*KINDS, "all"}
    assert all(share[kind] >= least for kind, least in FIRST[half].items()), share
    assert sum(third) / len(third) >= THIRD
    assert sum(covered) / len(covered) >= COVERED
    assert sum(uncovered) / len(uncovered) <= UNCOVERED
