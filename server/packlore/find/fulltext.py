"""Full-text search over the fields of items: SQLite FTS5 in memory, built once, never changed."""

from __future__ import annotations

import math
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping

from packlore.find.fields import Fields
from packlore.find.terms import terms

WEIGHTS = (6.0, 5.0, 5.0, 3.0, 2.0, 1.5, 1.0)
"""What a word counts in each of the Fields."""
MAX_ASKED = 24
"""Terms of a query that are looked for, the rarest first."""
MAX_MATCHES = 2_000
"""Items that the terms may match in all, after the first: what bounds a search of a large pack."""


class FullText:
    """Safe to ask from many threads at once. Items go by their number in the order given."""

    def __init__(self, items: Iterable[Fields]) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._db.close)  # a watched pack leaves an index behind per change
        columns = ", ".join(Fields._fields)
        self._db.execute(
            f"CREATE VIRTUAL TABLE fts USING fts5({columns}, content='', "
            """tokenize="unicode61 remove_diacritics 0 tokenchars '_'")"""
        )
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5vocab(fts, row)")
        places = ", ".join("?" * (len(Fields._fields) + 1))
        added = self._db.executemany(
            f"INSERT INTO fts(rowid, {columns}) VALUES ({places})",  # noqa: S608 no values in it
            (
                (number, *(" ".join(terms(text)) for text in item))
                for number, item in enumerate(items)
            ),
        )
        size = max(added.rowcount, 0)
        self.counts: Mapping[str, int] = dict(
            self._db.execute("SELECT term, doc FROM words").fetchall()
        )
        self._rarest = math.log(2 * size + 2)
        self._rarities = {
            term: math.log(1 + (size - count + 0.5) / (count + 0.5))
            for term, count in self.counts.items()
        }

    def idf(self, term: str) -> float:
        """How rare a term is: from about 0 in every item to the most in none."""
        return self._rarities.get(term, self._rarest)

    def find(
        self, weights: Mapping[str, float], limit: int, admits: Callable[[int], bool] | None = None
    ) -> dict[int, float]:
        """The best items for the weighed terms, and their scores. `admits` says by the number
        which items are wanted; without it all are."""
        asked = self._asked(weights)
        if not asked:
            return {}
        match = " OR ".join(f'"{term}"' for term in asked)
        fields = ", ".join(map(str, WEIGHTS))
        found = f"SELECT rowid, -bm25(fts, {fields}) AS score FROM fts WHERE fts MATCH ?"  # noqa: S608 numbers
        best = f"{found} ORDER BY score DESC, rowid"
        with self._lock:
            if admits is None:
                return dict(self._db.execute(f"{best} LIMIT {limit}", (match,)).fetchall())
            rows = self._db.execute(best, (match,)).fetchall()
        return dict([row for row in rows if admits(row[0])][:limit])

    def _asked(self, weights: Mapping[str, float]) -> list[str]:
        """The terms to look for: the rarest, while the items that have them are not too many."""
        known = [term for term in weights if term in self.counts]
        known.sort(key=lambda term: (-weights[term] * self.idf(term), term))
        matches = 0
        asked: list[str] = []
        for term in known[:MAX_ASKED]:
            matches += self.counts[term]
            if matches > MAX_MATCHES and asked:
                break
            asked.append(term)
        return asked
