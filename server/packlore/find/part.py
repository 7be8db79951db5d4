"""Items that are searched together, and what speaks for each of them.

A pack that has a model is a part of its own: what its words are worth, and what it says nothing to,
depends on no other pack. All others are one part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from packlore.find.fields import fields
from packlore.find.filter import EVERYTHING, Entry, Filter
from packlore.find.fulltext import FullText
from packlore.find.model import LEAST, Model, said
from packlore.find.query import Query
from packlore.find.rank import LEARNT, PLAIN, Evidence, Profile, Weights, asked, evidence, profile
from packlore.find.spelling import Spelling
from packlore.find.terms import is_han
from packlore.find.why import why

CANDIDATES = 12
"""Items that full-text search hands to the ranking."""
NEAREST = 8
"""Items that the model of a pack adds to them."""


class Candidate(NamedTuple):
    """An item that may fit, what speaks for it, and how that is weighed."""

    entry: Entry
    evidence: Evidence
    weights: Weights

    @property
    def is_rule(self) -> bool:
        """Whether it is a rule, and no document."""
        return self.entry.kind == "rule"


class Part:
    """Immutable once built; safe to ask from many threads at once."""

    def __init__(self, entries: Iterable[Entry], model: Model | None = None) -> None:
        """`model` is that of the one pack whose entries these are."""
        self._entries: Sequence[Entry] = tuple(entries)
        self._model = model
        known = set(model.rules) if model else set()
        self._learnt = {
            each.item.id: number
            for number, each in enumerate(self._entries)
            if each.kind == "rule" and each.item.id in known
        }
        self._profiles: dict[int, Profile] = {}
        self._text = FullText(fields(entry.item) for entry in self._entries)

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._text.counts)

    def mended(self, query: Query) -> Query:
        """The query with its misspelt words put right. Names in code and messages stay."""
        if query.code or query.message:
            return query
        weights: dict[str, float] = {}
        for term, weight in query.weights.items():
            if is_han(term) and term not in self._text.counts:
                weights[term] = weight / 4  # most pairs of characters are not words
                continue
            known = None if term in self._text.counts else self._spelling.mend(term)
            meant, counts = (known, weight * 0.8) if known else (term, weight)
            weights[meant] = max(weights.get(meant, 0.0), counts)
        return replace(query, weights=weights)

    def candidates(self, given: Query, where: Filter = EVERYTHING) -> list[Candidate]:
        """What full-text search finds, and what the model takes the query for."""

        def admits(number: int) -> bool:
            return where.admits(self._entries[number])

        query = self.mended(given)
        texts = self._text.find(query.weights, CANDIDATES, None if where == EVERYTHING else admits)
        sounds: dict[int, float] = {}
        outside = 0.0
        if self._model and self._learnt:
            rules, outside = said(self._model, given.raw)
            sounds = {number: max(rules[rule], LEAST) for rule, number in self._learnt.items()}
        by_sound = sorted(filter(admits, sounds), key=lambda number: (-sounds[number], number))
        words = asked(query, self._text.idf)

        def candidate(number: int) -> Candidate:
            known, learnt = self._profile(number), number in sounds
            found = evidence(
                words,
                known,
                text=texts.get(number, 0.0),
                sound=sounds.get(number, 0.0),
                outside=max(outside, LEAST) if learnt else 0.0,
            )
            return Candidate(self._entries[number], found, LEARNT if learnt else PLAIN)

        return [*map(candidate, dict.fromkeys((*texts, *by_sound[:NEAREST])))]

    def why(self, given: Query, entry: Entry) -> str:
        """One line on why the entry was found; nothing where only its sound is known."""
        known = self._profile(self._entries.index(entry))
        return why(self.mended(given), entry.item, known, self._text.idf)

    def _profile(self, number: int) -> Profile:
        if number not in self._profiles:
            self._profiles[number] = profile(self._entries[number].item, self._text.idf)
        return self._profiles[number]
