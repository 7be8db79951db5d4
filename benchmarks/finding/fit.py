"""The weights of server/packlore/find/rank.py, fitted: `python -m benchmarks.finding.fit`.

A quarter of asked.json at a time is asked of a vocabulary that was counted from the rest and
from phrases.json. The fit
is a listwise logistic regression by Newton's method: which of the candidates of a query answers
it, or none. Of `tune` only the cut-off is read, of `report` nothing.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.finding.queries import ASKED, PHRASES, load
from packlore.find.filter import Entry
from packlore.find.index import Index
from packlore.find.learn import Asked, count, read_asked
from packlore.find.query import read_query
from packlore.find.rank import Evidence, power
from packlore.library import Library
from packlore.locate import locate
from packlore.pack.model import Rule

FOLDS = 4
ROUNDS = 15
"""Newton's steps; the weights stand still after about eight."""
LONGEST = 2.0
"""How far one step may change a weight."""
HOLD = 1e-3
"""What pulls a weight to nothing, for each query."""
SIZE = len(Evidence._fields) + 1
"""Weights to find: one for each piece of evidence, and what is added."""


class Case(NamedTuple):
    """One query: the evidence of each rule that may fit, and which of them does."""

    found: Sequence[Sequence[float]]
    right: Sequence[bool]


def main() -> None:
    """Print the weights for rules with a vocabulary and for those without, and the cut-off."""
    library = Library.open(locate())
    entries = tuple(library.rules())
    asked = read_asked(ASKED.read_text(encoding="utf-8"))
    random.Random(0).shuffle(asked)
    phrases = read_asked(PHRASES.read_text(encoding="utf-8"))
    print(f"LEARNT = {written(fitted(list(crosswise(entries, asked, phrases))))}")
    bare = [without_aliases(entry) for entry in entries]
    plain = [case for each in (entries, bare) for case in cases(Index(each), asked)]
    print(f"PLAIN = {written(fitted(plain))}")
    cuts(library)


def crosswise(
    entries: Sequence[Entry], asked: Sequence[Asked], phrases: Sequence[Asked]
) -> Iterator[Case]:
    """Each query asked of a vocabulary that was counted without it."""
    rules = [entry.item for entry in entries if isinstance(entry.item, Rule)]
    for fold in range(FOLDS):
        print(f"fold {fold + 1} of {FOLDS}", file=sys.stderr)
        others = (each for n, each in enumerate(asked) if n % FOLDS != fold)
        words = count(rules, (*phrases, *others))
        yield from cases(Index(entries, {entries[0].pack: words}), asked[fold::FOLDS])


def cases(index: Index, asked: Iterable[Asked]) -> Iterator[Case]:
    """What the index knows of each query."""
    for each in asked:
        near = index.candidates(index.mended(read_query(each.query)))
        found = [(*candidate.evidence, 1.0) for candidate in near]
        yield Case(found, [candidate.entry.item.id in each.rules for candidate in near])


def without_aliases(entry: Entry) -> Entry:
    """The rule as somebody writes it who knows of no aliases."""
    assert isinstance(entry.item, Rule)
    return replace(entry, item=replace(entry.item, aliases=()))


def fitted(cases: Sequence[Case]) -> list[float]:
    """The weights under which the right answers are likeliest. That nothing fits weighs 0."""
    weights = [0.0] * SIZE
    for _ in range(ROUNDS):
        slope = [-HOLD * len(cases) * each for each in weights]
        bend = [[HOLD * len(cases) * (i == j) for j in range(SIZE)] for i in range(SIZE)]
        for case in cases:
            _learn(case, weights, slope, bend)
        steps = solved(bend, slope)
        # A full step may overshoot where the curve is flat.
        share = min(1.0, LONGEST / max(map(abs, steps)))
        weights = [w + share * step for w, step in zip(weights, steps, strict=True)]
    return weights


def _learn(
    case: Case, weights: Sequence[float], slope: list[float], bend: list[list[float]]
) -> None:
    """Add what one query says: the slope of its likelihood, and a bound on its bend."""
    sums = [sum(map(float.__mul__, weights, found)) for found in case.found]
    powers = [math.exp(each) for each in sums]
    total = 1 + sum(powers)
    right = sum(each for each, fits in zip(powers, case.right, strict=True) if fits)
    mean = [0.0] * SIZE
    for found, each, fits in zip(case.found, powers, case.right, strict=True):
        share = each / total
        wanted = each / right if fits else 0.0
        for i, value in enumerate(found):
            slope[i] += (wanted - share) * value
            mean[i] += share * value
            row = bend[i]
            for j, other in enumerate(found):
                row[j] += share * value * other
    for i in range(SIZE):
        for j in range(SIZE):
            bend[i][j] -= mean[i] * mean[j]


def solved(rows: list[list[float]], values: list[float]) -> list[float]:
    """The solution of a small system of linear equations, by elimination."""
    size = len(values)
    table = [[*row, value] for row, value in zip(rows, values, strict=True)]
    for i in range(size):
        best = max(range(i, size), key=lambda n: abs(table[n][i]))
        table[i], table[best] = table[best], table[i]
        table[i] = [each / table[i][i] for each in table[i]]
        for n in range(size):
            if n != i:
                factor = table[n][i]
                table[n] = [a - factor * b for a, b in zip(table[n], table[i], strict=True)]
    return [row[-1] for row in table]


def written(weights: Sequence[float]) -> str:
    """The weights as they stand in rank.py."""
    *evidence, bias = weights
    return f"Weights(Evidence({', '.join(f'{each:.2f}' for each in evidence)}), {bias:.2f})"


def cuts(library: Library) -> None:
    """For each cut-off, with the weights of rank.py, the share of `tune` that is answered."""
    index = library.index
    best: dict[bool, list[float]] = {True: [], False: []}
    for query in load("tune"):
        near = index.candidates(index.mended(read_query(query.text)))
        total = sum(power(found, weights) for entry, found, weights in near if entry.kind == "rule")
        best[bool(query.rules)].append(total / (1 + total))
    for cut in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        shares = (sum(each >= cut for each in best[c]) / len(best[c]) for c in (True, False))
        covered, uncovered = shares
        print(f"cut {cut}: of the covered {covered:.3f}, of the uncovered {uncovered:.3f} answered")


if __name__ == "__main__":
    main()
