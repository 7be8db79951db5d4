"""How people ask: which words tell that a query is about one rule and not another. No I/O.

A pack may carry `assets/_vocabulary.json`, which `packlore build --asked` counts out of queries
whose right rule is known. A rule's own words cannot do that: who says that a page is empty after
lunch does not say `pool_pre_ping`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packlore.find.query import Query
from packlore.pack import Pack, Problem

FILE = "assets/_vocabulary.json"
"""Where a pack has it: not among the rules, for people and agents grep in those."""
MOST = 200
"""The largest weight of a term, in tenths."""
SCALE = 3.0
"""What makes the sum for a plain case about 1."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What words tell of a query: for each term pairs of a place in `rules` and then `outside`,
    the topics that a pack does not cover, and of how telling it is there."""

    rules: tuple[str, ...]
    outside: tuple[str, ...]
    terms: Mapping[str, Sequence[int]]


def of(pack: Pack) -> Vocabulary | None:
    """The vocabulary of a pack. ValueError where its file is broken."""
    data = next((file.data for file in pack.files if file.path == FILE), None)
    return None if data is None else decode(data.decode("utf-8"))


def usable(pack: Pack) -> Vocabulary | None:
    """The same for a search, which does without a broken one: `packlore lint` reports it."""
    try:
        words = of(pack)
    except ValueError:
        return None
    return words if words and words.rules else None


def said(vocabulary: Vocabulary, query: Query) -> tuple[Mapping[str, float], float]:
    """How much the query sounds like one for each rule, and like one for the nearest topic that
    the pack does not cover."""
    sums = [0.0] * (len(vocabulary.rules) + len(vocabulary.outside))
    weights = query.weights | query.shapes
    for term, weight in weights.items():
        for place, tenths in _pairs(vocabulary, term):
            sums[place] += weight * tenths
    scale = 1 / (10 * SCALE * math.sqrt(1 + sum(weights.values())))
    found = {
        rule: value * scale for rule, value in zip(vocabulary.rules, sums, strict=False) if value
    }
    return found, max(sums[len(vocabulary.rules) :], default=0.0) * scale


def _pairs(vocabulary: Vocabulary, term: str) -> list[tuple[int, int]]:
    """What the term tells; nothing where the file is broken there."""
    row = vocabulary.terms.get(term, ())
    if not isinstance(row, (list, tuple)) or not all(type(each) is int for each in row):
        return []
    places = len(vocabulary.rules) + len(vocabulary.outside)
    pairs = list(zip(row[::2], row[1::2], strict=False))
    sound = len(row) % 2 == 0 and all(
        0 <= place < places and 0 < tenths <= MOST for place, tenths in pairs
    )
    return pairs if sound else []


def broken(vocabulary: Vocabulary) -> list[str]:
    """The terms whose row is no list of pairs of a place and a weight."""
    return [term for term, row in vocabulary.terms.items() if row and not _pairs(vocabulary, term)]


def decode(text: str) -> Vocabulary:
    """The vocabulary of a file. ValueError for one that is none. A row of it is looked at when
    it is asked for, or by `broken`: a process for one question has no time to look at all."""
    try:
        loaded = json.loads(text)
        rules, outside, found = loaded["rules"], loaded["outside"], dict(loaded["terms"])
        "".join((*rules, *outside))  # all are texts
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no vocabulary: {error!r}") from error
    return Vocabulary(tuple(rules), tuple(outside), found)


def problems(pack: Pack) -> Iterator[Problem]:
    """The vocabulary can be read, and knows no rule that is gone."""
    try:
        known = of(pack)
    except ValueError as error:
        yield Problem(FILE, 1, "vocabulary", f"{error}: run `packlore build --asked`")
        return
    if known is None:
        return
    for term in broken(known)[:1]:
        message = f"{term!r} has no pairs of a place and a weight: run `packlore build --asked`"
        yield Problem(FILE, 1, "vocabulary", message)
    gone = set(known.rules) - {rule.id for rule in pack.rules}
    for each in sorted(gone):
        yield Problem(FILE, 1, "rule-unknown", f"names the rule {each!r}, which is none")
