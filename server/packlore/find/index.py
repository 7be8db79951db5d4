"""Packs to an Index; a query to Hits. Built once and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from packlore.find.fields import fields
from packlore.find.filter import EVERYTHING, Entry, Filter, Hit
from packlore.find.fulltext import FullText
from packlore.find.query import Query, read_query
from packlore.find.rank import (
    CUT,
    CUT_FILTERED,
    CUT_FRESH,
    CUT_PLAIN,
    DOCUMENT,
    LEARNT,
    PLAIN,
    Evidence,
    Profile,
    Weights,
    evidence,
    odds,
    power,
    profile,
)
from packlore.find.spelling import Spelling
from packlore.find.terms import is_han
from packlore.find.vocabulary import Vocabulary, said
from packlore.pack import Rule

CANDIDATES = 12
"""Items that full-text search hands to the ranking."""
NEAREST = 8
"""Items that the vocabulary of a pack adds to them."""
LEAST = 1 / 4_000
"""The share of the best hit's score from which on another is worth a line."""


class Candidate(NamedTuple):
    """An item that may fit, what speaks for it, and how that is weighed."""

    entry: Entry
    evidence: Evidence
    weights: Weights

    @property
    def is_rule(self) -> bool:
        """Whether it is a rule, and no document."""
        return self.entry.kind == "rule"


class Index:
    """Immutable once built; safe to ask from many threads at once."""

    def __init__(
        self, entries: Iterable[Entry], vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> None:
        """`vocabularies` are those of the packs that have one."""
        self._entries: Sequence[Entry] = tuple(entries)
        self._vocabularies = dict(vocabularies or {})
        numbers = {(each.pack, each.item.id): n for n, each in enumerate(self._entries)}
        self._learnt = {
            (pack, rule): numbers[pack, rule]
            for pack, vocabulary in self._vocabularies.items()
            for rule in vocabulary.rules
            if (pack, rule) in numbers
        }
        self._profiles: dict[int, Profile] = {}
        self._text = FullText(fields(entry.item) for entry in self._entries)

    @cached_property
    def _known(self) -> dict[str, int]:
        """The words that a query may have, and how common each is."""
        learnt = (term for words in self._vocabularies.values() for term in words.terms)
        return dict.fromkeys(learnt, 1) | dict(self._text.counts)

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._known)

    def mended(self, query: Query) -> Query:
        """The query with its misspelt words put right. Names in code and messages stay."""
        if query.code or query.message:
            return query
        weights: dict[str, float] = {}
        for term, weight in query.weights.items():
            if is_han(term) and term not in self._known:
                weights[term] = weight / 4  # most pairs of characters are not words
                continue
            known = None if term in self._known else self._spelling.mend(term)
            meant, counts = (known, weight * 0.8) if known else (term, weight)
            weights[meant] = max(weights.get(meant, 0.0), counts)
        return replace(query, weights=weights)

    def candidates(self, query: Query, where: Filter = EVERYTHING) -> list[Candidate]:
        """What full-text search finds, and what is asked for in such words."""

        def admits(number: int) -> bool:
            return where.admits(self._entries[number])

        everything = where == EVERYTHING
        texts = self._text.find(query.weights, CANDIDATES, None if everything else admits)
        asked: dict[int, float] = {}
        outside: dict[str, float] = {}
        for pack, vocabulary in self._vocabularies.items():
            sounds, outside[pack] = said(vocabulary, query)
            asked |= {
                self._learnt[pack, rule]: sound
                for rule, sound in sounds.items()
                if (pack, rule) in self._learnt
            }
        by_sound = sorted(filter(admits, asked), key=lambda number: (-asked[number], number))
        return [
            self._candidate(query, number, texts.get(number, 0.0), asked.get(number, 0.0), outside)
            for number in dict.fromkeys((*texts, *by_sound[:NEAREST]))
        ]

    def _candidate(
        self, query: Query, number: int, text: float, asked: float, outside: Mapping[str, float]
    ) -> Candidate:
        entry = self._entries[number]
        learnt = (entry.pack, entry.item.id) in self._learnt
        found = evidence(
            query,
            self._profile(number),
            self._text.idf,
            text=text,
            asked=asked,
            outside=outside[entry.pack] if learnt else 0.0,
        )
        return Candidate(entry, found, LEARNT if learnt else PLAIN)

    def search(self, query: str, where: Filter = EVERYTHING, limit: int = 5) -> tuple[Hit, ...]:
        """The best hits of `query`, best first; none where nothing fits."""
        weighed = list(self._fitting(self._weighed(query, where), where))
        if not weighed:
            return ()
        total = sum(value for _, value in weighed)
        hits = (
            Hit(each.entry.pack, each.entry.item, value / (1 + total)) for each, value in weighed
        )
        best, *others = _once(sorted(hits, key=lambda hit: (-hit.score, hit.item.id)))
        return (best, *(hit for hit in others if hit.score >= best.score * LEAST))[:limit]

    def nearest(self, query: str) -> Entry | None:
        """The rule that fits best, however badly."""
        weighed = self._weighed(query, EVERYTHING)
        rules = [
            (-value, each.entry.item.id, each.entry) for each, value in weighed if each.is_rule
        ]
        return min(rules, key=lambda each: each[:2])[2] if rules else None

    def _weighed(self, query: str, where: Filter) -> list[tuple[Candidate, float]]:
        """The candidates, and how much likelier than nothing each is the answer."""
        near = self.candidates(self.mended(read_query(query)), where)
        return [
            (each, power(each.evidence, each.weights) * (1 if each.is_rule else DOCUMENT))
            for each in near
        ]

    def _fitting(
        self, weighed: Iterable[tuple[Candidate, float]], where: Filter
    ) -> Iterator[tuple[Candidate, float]]:
        """The candidates of the packs in which something fits."""
        packs: dict[str, list[tuple[Candidate, float]]] = {}
        for each, value in weighed:
            packs.setdefault(each.entry.pack, []).append((each, value))
        for pack, of_pack in packs.items():
            if self._fits(of_pack, where, learnt=pack in self._vocabularies):
                yield from of_pack

    def _fits(
        self, weighed: Iterable[tuple[Candidate, float]], where: Filter, *, learnt: bool
    ) -> bool:
        """Whether anything of one pack fits. Where it has a vocabulary, its rules decide and not
        what lies beside them."""
        known = fresh = beside = 0.0
        for each, value in weighed:
            if each.weights is LEARNT:
                known += value
            elif each.is_rule:
                fresh += value
            else:
                beside += value
        if where != EVERYTHING:
            return known + fresh + beside >= odds(CUT_FILTERED)
        if learnt:
            return known >= odds(CUT) or fresh >= odds(CUT_FRESH)
        return fresh + beside >= odds(CUT_PLAIN)

    def _profile(self, number: int) -> Profile:
        if number not in self._profiles:
            self._profiles[number] = profile(self._entries[number].item)
        return self._profiles[number]


def _once(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Each text once: some repositories hold a skill in two places."""
    seen: set[str] = set()
    for hit in hits:
        text = hit.item.body if isinstance(hit.item, Rule) else hit.item.text
        if not text or text not in seen:
            seen.add(text)
            yield hit
