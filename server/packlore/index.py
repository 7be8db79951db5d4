"""Packs to an Index; a query to Hits. SQLite FTS5 in memory, built once and never changed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packlore.model import Document, Hit, Impact, Kind, Rule
from packlore.terms import terms, without_noise

WEIGHTS = {
    "title": 6.0,
    "symptoms": 5.0,
    "aliases": 5.0,
    "tags": 3.0,
    "headings": 2.0,
    "prose": 1.5,
    "code": 1.0,
}
MAX_QUERY = 16 * 1024
"""Characters; of a longer query its two ends are read, where messages and questions stand."""
MAX_TERMS = 24
"""Distinct terms of a query that are asked for, the rarest first."""
DOCUMENT_FACTOR = 0.6
"""Rules come before documents that fit as well: they are shorter and proven."""


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


class Index:
    """Immutable once built; safe to ask from many threads at once."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: Sequence[Entry] = tuple(entries)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join(WEIGHTS)
        self._db.execute(
            f"CREATE VIRTUAL TABLE fts USING fts5({columns}, content='', "
            """tokenize="porter unicode61 remove_diacritics 2 tokenchars '_'")"""
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

    def __len__(self) -> int:
        return len(self._entries)

    def search(self, query: str, where: Filter | None = None, limit: int = 5) -> tuple[Hit, ...]:
        """The best hits of `query`, best first; none where nothing in it is known."""
        asked = _asked(query)
        if not asked:
            return ()
        match = " OR ".join(f'"{term}"' for term in asked[:MAX_TERMS])
        weights = ", ".join(map(str, WEIGHTS.values()))
        with self._lock:
            rows = self._db.execute(
                f"SELECT rowid, bm25(fts, {weights}) FROM fts WHERE fts MATCH ?",  # noqa: S608
                (match,),
            ).fetchall()
        hits = [
            self._hit(number, -score)
            for number, score in rows
            if where is None or where.admits(self._entries[number])
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.item.id))
        return tuple(hits[:limit])

    def _hit(self, number: int, score: float) -> Hit:
        entry = self._entries[number]
        factor = 1.0 if isinstance(entry.item, Rule) else DOCUMENT_FACTOR
        return Hit(entry.pack, entry.item, score * factor)


def _asked(query: str) -> list[str]:
    if len(query) > MAX_QUERY:
        query = f"{query[: MAX_QUERY // 2]} {query[-MAX_QUERY // 2 :]}"
    return list(dict.fromkeys(terms(without_noise(query))))


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
