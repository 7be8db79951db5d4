"""Packs to an Index; a query to Hits. Built once and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from packlore.find import foreign
from packlore.find.filter import EVERYTHING, LIKELY, Entry, Filter, Hit
from packlore.find.model import Model
from packlore.find.part import Candidate, Part
from packlore.find.query import read_query
from packlore.find.rank import (
    CUT,
    CUT_BESIDE,
    CUT_FILTERED,
    CUT_FOREIGN,
    CUT_FRESH,
    CUT_PLAIN,
    DOCUMENT,
    LEARNT,
    odds,
    power,
)
from packlore.pack import Rule

LEAST = 1 / 4_000
"""The share of the best hit's score from which on another is worth a line."""

LAST = 2
"""The place in the order of what only lists rules."""

Weighed = tuple[Candidate, float]
"""A candidate, and how much likelier than nothing it is the answer."""


class Index:
    """Immutable once built; safe to ask from many threads at once."""

    def __init__(self, entries: Iterable[Entry], models: Mapping[str, Model] | None = None) -> None:
        """`models` are those of the packs that have one."""
        self._models = dict(models or {})
        of_part: dict[str, list[Entry]] = {}
        for each in entries:
            of_part.setdefault(each.pack if each.pack in self._models else "", []).append(each)
        self._parts = {pack: Part(each, self._models.get(pack)) for pack, each in of_part.items()}

    def candidates(self, query: str, where: Filter = EVERYTHING) -> list[Candidate]:
        """Of each part, what may fit."""
        asked = read_query(query)
        return [each for part in self._parts.values() for each in part.candidates(asked, where)]

    def search(self, query: str, where: Filter = EVERYTHING, limit: int = 5) -> tuple[Hit, ...]:
        """The best hits of `query`, best first; none where nothing fits."""
        weighed = list(self._fitting(self._weighed(query, where), where))
        if not weighed:
            return ()
        total = _total(weighed)
        hits = (
            Hit(each.entry.pack, each.entry.item, value / (1 + total)) for each, value in weighed
        )
        ordered = sorted(hits, key=lambda hit: (_later(hit, where), -hit.score, hit.item.id))
        best, *others = _once(ordered)
        if _later(best, where) == LAST:
            return ()
        return (best, *(hit for hit in others if hit.score >= best.score * LEAST))[:limit]

    def why(self, query: str, hit: Hit) -> str:
        """One line on why a hit of the query was found; nothing where only its sound is known."""
        part = self._parts[hit.pack if hit.pack in self._models else ""]
        return hit.why or part.why(read_query(query), Entry(hit.pack, hit.item))

    def nearest(self, query: str) -> Entry | None:
        """The rule that fits best, however badly."""
        weighed = self._weighed(query, EVERYTHING)
        rules = [
            (-value, each.entry.item.id, each.entry) for each, value in weighed if each.is_rule
        ]
        return min(rules, key=lambda each: each[:2])[2] if rules else None

    def _weighed(self, query: str, where: Filter) -> list[Weighed]:
        return [
            (each, power(each.evidence, each.weights) * (1 if each.is_rule else DOCUMENT))
            for each in self.candidates(query, where)
        ]

    def _fitting(self, weighed: Iterable[Weighed], where: Filter) -> Iterator[Weighed]:
        """The candidates of the packs in which something fits."""
        for pack, of_pack in _by_pack(weighed).items():
            if self._fits(pack, of_pack, where):
                yield from of_pack

    def _fits(self, pack: str, weighed: Iterable[Weighed], where: Filter) -> bool:
        """Whether anything of one pack fits. Where it has a model, its rules decide and not what
        lies beside them; where it has none, it must fit better than it fits anything."""
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
        if pack in self._models:
            return known >= odds(CUT) or fresh >= odds(CUT_FRESH)
        return fresh + beside >= odds(CUT_PLAIN) and fresh + beside > self._floors.get(pack, 0.0)

    @cached_property
    def _floors(self) -> dict[str, float]:
        """Of each pack without a model, how well it fits what it is not about, up to CUT_FOREIGN: what
        it likely answers it is about."""
        floors: dict[str, float] = {}
        for query in foreign.QUERIES if "" in self._parts else ():
            for pack, of_pack in _by_pack(self._weighed(query, EVERYTHING)).items():
                if (fit := _total(of_pack)) < odds(LIKELY):
                    floors[pack] = max(min(fit, odds(CUT_FOREIGN)), floors.get(pack, 0.0))
        return floors


def _by_pack(weighed: Iterable[Weighed]) -> dict[str, list[Weighed]]:
    found: dict[str, list[Weighed]] = {}
    for each, value in weighed:
        found.setdefault(each.entry.pack, []).append((each, value))
    return found


def _total(weighed: Iterable[Weighed]) -> float:
    return sum(value for _, value in weighed)


def _later(hit: Hit, where: Filter) -> int:
    """Rules are shorter and proven: a document comes before one that fits only where its kind is
    asked for. What only lists rules never comes first."""
    if where.kind is not None or (isinstance(hit.item, Rule) and hit.score >= CUT_BESIDE):
        return 0
    lists = not isinstance(hit.item, Rule) and (
        hit.item.kind == "checklist" or hit.item.path == "SKILL.md"
    )
    return LAST if lists else 1


def _once(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Each text once: some repositories hold a skill in two places."""
    seen: set[str] = set()
    for hit in hits:
        text = hit.item.body if isinstance(hit.item, Rule) else hit.item.text
        if not text or text not in seen:
            seen.add(text)
            yield hit
