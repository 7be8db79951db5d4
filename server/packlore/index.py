"""Packs to an Index; a query to Hits. SQLite FTS5 in memory, built once and never changed."""

from __future__ import annotations

import math
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from packlore.model import Document, Hit, Impact, Kind, Rule
from packlore.query import Query, read_query
from packlore.rank import CUT, CUT_FILTERED, DOCUMENT, Evidence, Profile, evidence, profile, score
from packlore.spelling import Spelling
from packlore.synonyms import alike
from packlore.terms import is_han, terms

WEIGHTS = {
    "title": 6.0,
    "symptoms": 5.0,
    "aliases": 5.0,
    "tags": 3.0,
    "headings": 2.0,
    "prose": 1.5,
    "code": 1.0,
}
CANDIDATES = 20
"""Items that full-text search hands to the ranking."""
MAX_ASKED = 24
"""Terms of a query that full-text search is asked for, the rarest first."""
MIN_ASKED = 1
"""Terms that are asked for whatever they cost."""
MAX_MATCHES = 2_500
"""Items that the terms may match in all: what bounds a search of a large pack."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be found, and the pack it belongs to."""

    pack: str
    item: Rule | Document

    @property
    def kind(self) -> Kind:
        """What the item is."""
        return "rule" if isinstance(self.item, Rule) else self.item.kind


@dataclass(frozen=True, slots=True)
class Filter:
    """What a hit must be. Empty fields admit everything; `impact` is a minimum, for rules."""

    category: str = ""
    impact: Impact | None = None
    tag: str = ""
    kind: Kind | None = None
    pack: str = ""

    def admits(self, entry: Entry) -> bool:
        """Whether the entry passes every field that is set."""
        item = entry.item
        return (
            (not self.category or item.category == self.category)
            and (self.impact is None or (isinstance(item, Rule) and item.impact >= self.impact))
            and (not self.tag or self.tag.lower() in (tag.lower() for tag in item.tags))
            and (self.kind is None or entry.kind == self.kind)
            and (not self.pack or entry.pack == self.pack)
        )


EVERYTHING = Filter()


class Index:
    """Immutable once built; safe to ask from many threads at once."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: Sequence[Entry] = tuple(entries)
        self._profiles: dict[int, Profile] = {}
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._db.close)  # a watched pack leaves an index behind per change
        columns = ", ".join(WEIGHTS)
        self._db.execute(
            f"CREATE VIRTUAL TABLE fts USING fts5({columns}, content='', "
            """tokenize="unicode61 remove_diacritics 0 tokenchars '_'")"""
        )
        self._db.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(fts, row)")
        places = ", ".join("?" * (len(WEIGHTS) + 1))
        self._db.executemany(
            f"INSERT INTO fts(rowid, {columns}) VALUES ({places})",  # noqa: S608 no values in it
            (
                (number, *(" ".join(terms(text)) for text in _columns(entry.item)))
                for number, entry in enumerate(self._entries)
            ),
        )
        rows = self._db.execute("SELECT term, doc FROM vocabulary")
        self._counts: dict[str, int] = dict(rows)
        size = len(self._entries)
        self._rarest = math.log(2 * size + 2)
        self._rarities = {
            term: math.log(1 + (size - count + 0.5) / (count + 0.5))
            for term, count in self._counts.items()
        }

    def __len__(self) -> int:
        return len(self._entries)

    def idf(self, term: str) -> float:
        """How rare a term is: from about 0 in every item to the most in none."""
        return self._rarities.get(term, self._rarest)

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._counts)

    def mended(self, query: Query) -> Query:
        """The query with its misspelt words put right. Names in code and messages stay."""
        if query.code or query.message:
            return query
        weights: dict[str, float] = {}
        for term, weight in query.weights.items():
            if is_han(term) and term not in self._counts:
                weights[term] = weight / 4  # most pairs of characters are not words
                continue
            known = term if term in self._counts else self._spelling.mend(term)
            meant, sure = (known, weight) if known == term else (known or term, weight * 0.8)
            weights[meant] = max(weights.get(meant, 0.0), sure if known else weight)
        return replace(query, weights=weights)

    def candidates(self, query: Query, where: Filter = EVERYTHING) -> list[tuple[int, Evidence]]:
        """The items that full-text search finds, by number, and what speaks for them."""
        asked = self._asked(query)
        if not asked:
            return []
        match = " OR ".join(f'"{term}"' for term in asked)
        weights = ", ".join(map(str, WEIGHTS.values()))
        found = f"SELECT rowid, -bm25(fts, {weights}) AS score FROM fts WHERE fts MATCH ?"  # noqa: S608 numbers
        with self._lock:
            if where == EVERYTHING:
                order = f"{found} ORDER BY score DESC, rowid LIMIT {CANDIDATES}"
                admitted = self._db.execute(order, (match,)).fetchall()
            else:
                rows = self._db.execute(found, (match,)).fetchall()
                admitted = [row for row in rows if where.admits(self._entries[row[0]])]
                admitted.sort(key=lambda row: (-row[1], row[0]))
        return [
            (number, evidence(query, self._profile(number), text, self.idf))
            for number, text in admitted[:CANDIDATES]
        ]

    def _asked(self, query: Query) -> list[str]:
        """The terms that full-text search looks for: the rarest, with those of their meaning,
        while the items that have them are no more than MAX_MATCHES."""
        wanted = dict(query.weights)
        for term, weight in query.weights.items():
            for other in alike(term):
                wanted.setdefault(other, weight / 2)
        known = [term for term in wanted if term in self._counts]
        known.sort(key=lambda term: (-wanted[term] * self.idf(term), term))
        matches = 0
        asked: list[str] = []
        for term in known[:MAX_ASKED]:
            matches += self._counts[term]
            if matches > MAX_MATCHES and len(asked) >= MIN_ASKED:
                break
            asked.append(term)
        return asked

    def search(self, query: str, where: Filter = EVERYTHING, limit: int = 5) -> tuple[Hit, ...]:
        """The best hits of `query`, best first; none where nothing fits."""
        asked = self.mended(read_query(query))
        scores = {number: score(asked, found) for number, found in self.candidates(asked, where)}
        if max(scores.values(), default=0.0) < (CUT if where == EVERYTHING else CUT_FILTERED):
            return ()
        hits = [self._hit(number, value) for number, value in scores.items()]
        hits.sort(key=lambda hit: (-hit.score, hit.item.id))
        return tuple(_once(hits))[:limit]

    def _hit(self, number: int, score: float) -> Hit:
        entry = self._entries[number]
        return Hit(entry.pack, entry.item, score * (1 if entry.kind == "rule" else DOCUMENT))

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


def _columns(item: Rule | Document) -> Iterator[str]:
    """The texts of an item in the order of WEIGHTS."""
    rule = item if isinstance(item, Rule) else None
    yield f"{item.title} {item.id}"
    yield "\n".join(rule.symptoms) if rule else ""
    yield "\n".join(rule.aliases) if rule else ""
    yield " ".join((*item.tags, item.category))
    yield "\n".join(section.title for section in item.sections)
    prose = "\n".join(section.prose for section in item.sections)
    yield f"{rule.impact_description}\n{prose}" if rule else prose
    if item.sections:
        yield "\n".join(fence.code for section in item.sections for fence in section.fences)
    else:
        yield item.text if isinstance(item, Document) else ""
