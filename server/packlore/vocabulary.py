"""How people ask: which words tell that a query is about one rule and not another. No I/O.

A pack may carry `assets/_vocabulary.json`, which `packlore build --asked` counts out of queries
whose right rule is known. A rule's own words cannot do that: who says that a page is empty after
lunch does not say `pool_pre_ping`.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packlore.model import Pack, Rule, Vocabulary
from packlore.query import Query, read_query
from packlore.terms import terms

FILE = "assets/_vocabulary.json"
"""Where a pack has it: not among the rules, for people and agents grep in those."""
SMOOTHING = 20
"""Terms that each rule is taken to have been asked for beyond those counted: with it a few
queries prove little."""
ENOUGH = 20
"""Queries that a rule needs; below it is found better by its own words alone."""
RAREST = 4
"""Times that a term must have been said; what a few queries have in common is chance."""
MOST = 200
"""The largest weight of a term, in tenths."""
SCALE = 3.0
"""What makes the sum for a plain case about 1."""

_FORM = 'expected {"asked": {"rule-id": ["query", ...]}, "outside": {"topic": ["query", ...]}}'


@dataclass(frozen=True, slots=True)
class Asked:
    """A query whose answer is known: the rules that fit, best first, else the `topic` outside."""

    query: str
    rules: tuple[str, ...]
    topic: str


def of(pack: Pack) -> Vocabulary | None:
    """The vocabulary of a pack. ValueError where its file is broken."""
    data = next((file.data for file in pack.files if file.path == FILE), None)
    return None if data is None else decode(data.decode("utf-8"))


def read_asked(text: str) -> list[Asked]:
    """Queries as JSON: under `asked` by the ids of the rules that fit, best first and with a
    space between them; under `outside` by the topic. ValueError says what is wrong."""
    try:
        loaded = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError(_FORM) from error
    if not isinstance(loaded, dict) or not {"asked"} <= set(loaded) <= {"asked", "outside"}:
        raise ValueError(_FORM)
    found = []
    for part, groups in loaded.items():
        for name, rows in groups.items() if isinstance(groups, dict) else [("", groups)]:
            if not name.strip() or not isinstance(rows, list):
                raise ValueError(f"no name or no list of queries at {name or part!r}; {_FORM}")
            if not all(isinstance(row, str) and row.strip() for row in rows):
                raise ValueError(f"a query of {name!r} is no text; {_FORM}")
            rules, topic = (tuple(name.split()), "") if part == "asked" else ((), name)
            found += [Asked(row, rules, topic) for row in rows]
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. ValueError for a name that stands twice: the first would be lost."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands twice in one object")
        found[name] = value
    return found


def count(rules: Iterable[Rule], asked: Collection[Asked]) -> Vocabulary:
    """The vocabulary of these queries, and of what each rule says of itself. A rule that too few
    of them ask for is not in it."""
    known = Counter(each.rules[0] for each in asked if each.rules)
    spoken: dict[str, Counter[str]] = {}
    for rule in sorted(rules, key=lambda rule: rule.id):
        if known[rule.id] < ENOUGH:
            continue
        spoken[rule.id] = Counter()
        for text in (rule.title, *rule.aliases, *rule.symptoms):
            spoken[rule.id].update(set(terms(text)))
    outside: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in asked:
        words = read_query(each.query).weights
        if not each.rules:
            outside[each.topic].update(words.keys())
        elif each.rules[0] in spoken:
            spoken[each.rules[0]].update(words.keys())
    counts = [*spoken.values(), *(outside[topic] for topic in sorted(outside))]
    return Vocabulary(tuple(spoken), tuple(sorted(outside)), dict(_telling(counts)))


def _telling(counts: list[Counter[str]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """For each term pairs of a place in `counts` and how much more often it is said there than
    elsewhere: the natural logarithm of the ratio, plus one, in tenths. Places where it would be
    below zero are left out: a word that is missing says little."""
    overall: Counter[str] = Counter()
    for each in counts:
        overall.update(each)
    total = overall.total()
    sizes = [each.total() for each in counts]
    for term in sorted(overall):
        share = overall[term] / total
        pairs: list[int] = []
        for place, (each, size) in enumerate(zip(counts, sizes, strict=True)):
            if overall[term] >= RAREST and each[term]:
                there = (each[term] + SMOOTHING * share) / (size + SMOOTHING)
                elsewhere = (overall[term] - each[term] + SMOOTHING * share) / (
                    total - size + SMOOTHING
                )
                tenths = round(10 * (1 + math.log(there / elsewhere)))
                pairs += [place, tenths] if tenths > 0 else []
        if pairs:
            yield term, tuple(pairs)


def said(vocabulary: Vocabulary, query: Query) -> tuple[Mapping[str, float], float]:
    """How much the query sounds like one for each rule, and like one for the nearest topic that
    the pack does not cover."""
    sums = [0.0] * (len(vocabulary.rules) + len(vocabulary.outside))
    for term, weight in query.weights.items():
        for place, tenths in _pairs(vocabulary, term):
            sums[place] += weight * tenths
    scale = 1 / (10 * SCALE * math.sqrt(1 + sum(query.weights.values())))
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


def encode(vocabulary: Vocabulary) -> str:
    """As JSON, a line for each term, so that a change of one is a change of one line."""
    rows = ",\n".join(
        f"{json.dumps(term, ensure_ascii=False)}:{json.dumps(pairs, separators=(',', ':'))}"
        for term, pairs in vocabulary.terms.items()
    )
    rules, outside = json.dumps(vocabulary.rules), json.dumps(vocabulary.outside)
    return f'{{"rules":{rules},\n"outside":{outside},\n"terms":{{\n{rows}\n}}}}\n'


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
