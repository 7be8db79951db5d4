"""The weights of server/packlore/find/rank.py, fitted: `python -m benchmarks.finding.fit`.

What one writer asked is asked of a model that only the others taught. The fit is a listwise logistic
regression by Newton's method: which of the candidates of a query answers it, or none. Of `report`
nothing is read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.finding.queries import ASKED, TAUGHT, WRITERS
from packlore.find.filter import Entry
from packlore.find.index import Index
from packlore.find.learn import Asked, model, read_asked
from packlore.find.rank import Evidence
from packlore.library import Library
from packlore.locate import locate
from packlore.pack.model import Rule

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
    covered: bool


def main() -> None:
    """Print the weights for rules with a model and for those without, and how sure a score is."""
    library = Library.open(locate())
    entries = tuple(library.rules())
    read = {path: read_asked(path.read_text(encoding="utf-8")) for path in TAUGHT}
    unseen = list(crosswise(entries, read))
    weights = fitted(unseen)
    print(f"LEARNT = {written(weights)}")
    reliability(unseen, weights)
    bare = [without_aliases(entry) for entry in entries]
    plain = [case for each in (entries, bare) for case in cases(Index(each), read[ASKED])]
    print(f"PLAIN = {written(fitted(plain))}")


def crosswise(entries: Sequence[Entry], read: Mapping[Path, Sequence[Asked]]) -> Iterator[Case]:
    """Each query of a writer asked of a model that was taught by the others alone: so a new writer
    finds it."""
    rules = [entry.item for entry in entries if isinstance(entry.item, Rule)]
    for path in WRITERS:
        print(f"without {path.name}", file=sys.stderr)
        others = [each for other, rows in read.items() if other != path for each in rows]
        learnt = model(rules, others)
        yield from cases(Index(entries, {entries[0].pack: learnt}), read[path])


def cases(index: Index, asked: Iterable[Asked]) -> Iterator[Case]:
    """What the index knows of each query."""
    for each in asked:
        near = index.candidates(each.query)
        found = [(*candidate.evidence, 1.0) for candidate in near]
        right = [candidate.entry.item.id in each.rules for candidate in near]
        yield Case(found, right, bool(each.rules))


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


def reliability(cases: Sequence[Case], weights: Sequence[float]) -> None:
    """How often the first answer is right, by its score, and what is answered from each score on."""
    rows: list[tuple[float, bool, bool]] = []
    for case in cases:
        powers = [math.exp(sum(map(float.__mul__, weights, found))) for found in case.found]
        best = max(range(len(powers)), key=powers.__getitem__)
        rows.append((powers[best] / (1 + sum(powers)), case.right[best], case.covered))
    covered, others = ([row for row in rows if row[2] is each] for each in (True, False))
    print("score from   right   covered answered   uncovered answered")
    for cut in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        of = [right for score, right, _ in rows if score >= cut]
        shares = (sum(row[0] >= cut for row in part) / len(part) for part in (covered, others))
        print(f"{cut:10.2f}{sum(of) / max(1, len(of)):8.3f}", *(f"{each:12.3f}" for each in shares))
    for low in range(0, 10, 1):
        band = [(score, right) for score, right, _ in rows if low <= score * 10 < low + 1]
        if band:
            meant = sum(score for score, _ in band) / len(band)
            print(
                f"said {meant:.2f}  right {sum(r for _, r in band) / len(band):.2f}  of {len(band)}"
            )
    print(f"first {sum(row[1] for row in covered) / len(covered):.3f} of {len(covered)}")


if __name__ == "__main__":
    main()
