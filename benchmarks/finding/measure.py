"""How often the right rule comes first: `python benchmarks/finding/measure.py [--half report]`."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packlore.library import Library
from packlore.locate import locate

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Query:
    """One query: the rules that fit, best first; none where the pack has no answer."""

    text: str
    kind: str
    rules: tuple[str, ...]


Finder = Callable[[str], Sequence[str]]
"""From a query to the ids of hits, best first."""


def queries(half: str) -> list[Query]:
    """The queries of a half, `tune` or `report`, those without an answer last."""
    return [
        Query(row["query"], row["kind"], tuple(row["rules"]))
        for name in (f"{half}.jsonl", f"uncovered-{half}.jsonl")
        for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()
        for row in (json.loads(line),)
    ]


def ours(library: Library) -> Finder:
    """This project's search."""

    def find(text: str) -> list[str]:
        return [hit.item.id for hit in library.search(text, limit=5)]

    return find


def main() -> None:
    """Print the table for one half."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--half", default="tune", choices=("tune", "report"))
    parser.add_argument("--misses", action="store_true", help="list what did not come first")
    arguments = parser.parse_args()
    library = Library.open(locate())
    find = ours(library)
    score: dict[str, list[tuple[bool, bool, float, bool]]] = defaultdict(list)
    known = {entry.item.id for entry in library.rules()}
    for query in queries(arguments.half):
        if query.rules and not known & set(query.rules):
            continue
        found = find(query.text)
        rank = next((n for n, each in enumerate(found, 1) if each in query.rules), 0)
        row = (rank == 1, 1 <= rank <= 3, 1 / rank if rank else 0.0, bool(found))
        for kind in (query.kind, "all" if query.rules else "uncovered"):
            score[kind].append(row)
            if not query.rules:
                break
        if arguments.misses and (rank != 1 if query.rules else found):
            print(f"[{query.kind}] {query.text[:300]!r}\n   want {query.rules} got {found[:4]}")
    print(f"{'kind':12} {'n':>4} {'s@1':>6} {'s@3':>6} {'mrr@5':>6} {'answered':>8}")
    for kind, rows in score.items():
        n = len(rows)
        first, third, mrr, answered = (sum(column) / n for column in zip(*rows, strict=True))
        print(f"{kind:12} {n:4} {first:6.3f} {third:6.3f} {mrr:6.3f} {answered:8.3f}")


if __name__ == "__main__":
    main()
