"""Queries whose answer is known to the model of a pack. Only authors run it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from packlore.errors import PackError
from packlore.find import train
from packlore.find.features import VERSION, features
from packlore.find.model import FILE, Model, begins, encode, turned, usable
from packlore.pack import Pack, Rule

ENOUGH = 20
"""Queries that a rule needs; below it is found better by its own words alone."""
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


def taught(
    rules: Iterable[Rule], asked: Sequence[Asked]
) -> tuple[list[str], list[tuple[str, str]]]:
    """The rules that a model of these queries knows, and what it learns from: texts, each with its
    rule or, for one outside, nothing. What a rule says of itself is among them; a rule that too few
    ask for is not."""
    known = Counter(each.rules[0] for each in asked if each.rules)
    said = {rule.id: (rule.title, *rule.aliases, *rule.symptoms) for rule in rules}
    names = sorted(name for name in said if known[name] >= ENOUGH)
    own = [(text, name) for name in names for text in said[name]]
    told = [(each.query, each.rules[0] if each.rules else "") for each in asked]
    return names, [*own, *(row for row in told if row[1] in ("", *names))]


def model(rules: Iterable[Rule], asked: Sequence[Asked]) -> Model:
    """What is learnt from these queries. PackError where they are too few."""
    names, rows = taught(rules, asked)
    if not names:
        raise PackError(
            f"no rule is asked for by {ENOUGH} queries: with fewer, search by the rules' "
            "own words is better"
        )
    places = {name: number for number, name in enumerate((*names, ""))}
    # An empty text is outside: so that place is known where no query is.
    found = train.train(
        [[], *(features(text) for text, _ in rows)],
        [places[""], *(places[name] for _, name in rows)],
    )
    rows_of = begins(found.keys, len(places))
    return Model(
        tuple(names), rows_of, turned(found.weights), found.scale, found.biases, digest(rows)
    )


def digest(rows: Sequence[tuple[str, str]]) -> str:
    """What differs where a model would be another one."""
    how = (VERSION, train.SEEN, train.MOST, train.LARGEST, train.STRENGTH, train.STEPS)
    return sha256(json.dumps([how, rows]).encode()).hexdigest()[:16]


def learn(pack: Pack, asked: Iterable[Path], *, check: bool = False) -> tuple[str, str]:
    """The model's path in the pack, and its text: what the queries in the files `asked` tell. One
    that was learnt from the very same stays as it is, for learning takes a minute; to `check`
    whether it did learns nothing. PackError where a file cannot be read, or asks for no rule."""
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
    there = usable(pack)
    if there and there.learnt == digest(taught(pack.rules, rows)[1]):
        return FILE, encode(there)
    return FILE, "" if check else encode(model(pack.rules, rows))
