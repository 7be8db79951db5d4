"""Queries whose answer is known to the vocabulary of a pack. Only authors run it."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from packlore.errors import PackError
from packlore.find.query import read_query
from packlore.find.terms import terms
from packlore.find.vocabulary import FILE, Vocabulary
from packlore.pack import Pack, Rule

SMOOTHING = 20
"""Terms that each rule is taken to have been asked for beyond those counted: with it a few
queries prove little."""
ENOUGH = 20
"""Queries that a rule needs; below it is found better by its own words alone."""
RAREST = 4
"""Times that a term must have been said; what a few queries have in common is chance."""
_FORM = 'expected {"asked": {"rule-id": ["query", ...]}, "outside": {"topic": ["query", ...]}}'


@dataclass(frozen=True, slots=True)
class Asked:
    """A query whose answer is known: the rules that fit, best first, else the `topic` outside."""

    query: str
    rules: tuple[str, ...]
    topic: str


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
    words = defaultdict(Counter[str], spoken)
    shown: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in asked:
        query = read_query(each.query)
        place = each.rules[0] if each.rules else f"outside {each.topic}"
        words[place].update(query.weights.keys())
        shown[place].update(query.shapes.keys())
    topics = sorted({each.topic for each in asked if not each.rules})
    places = (*spoken, *(f"outside {topic}" for topic in topics))
    # Apart, for code has many shapes: among them each word would seem to be rare.
    told = chain(*(_telling([each[place] for place in places]) for each in (words, shown)))
    return Vocabulary(tuple(spoken), tuple(topics), dict(sorted(told)))


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


def encode(vocabulary: Vocabulary) -> str:
    """As JSON, a line for each term, so that a change of one is a change of one line."""
    rows = ",\n".join(
        f"{json.dumps(term, ensure_ascii=False)}:{json.dumps(pairs, separators=(',', ':'))}"
        for term, pairs in vocabulary.terms.items()
    )
    rules, outside = json.dumps(vocabulary.rules), json.dumps(vocabulary.outside)
    return f'{{"rules":{rules},\n"outside":{outside},\n"terms":{{\n{rows}\n}}}}\n'


def learn(pack: Pack, asked: Iterable[Path]) -> tuple[str, str]:
    """The vocabulary's path in the pack, and its text: what the queries in the files `asked` tell.
    PackError where a file cannot be read, or asks for no rule."""
    rows: list[Asked] = []
    known = [rule.id for rule in pack.rules]
    for path in asked:
        try:
            found = read_asked(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PackError(f"{path}: {error}") from error
        for each in sorted({rule for row in found for rule in row.rules} - {*known}):
            near = get_close_matches(each, known, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise PackError(f"{path}: asks for {each!r}, which is no rule{hint}")
        rows += found
    counted = count(pack.rules, rows)
    if not counted.rules:
        raise PackError(
            f"no rule is asked for by {ENOUGH} queries: with fewer, search by the rules' "
            "own words is better"
        )
    return FILE, encode(counted)
