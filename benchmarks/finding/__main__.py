"""How often the right rule comes first, beside simpler searches: `make bench-finding`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

from benchmarks.finding.cost import path, standing
from benchmarks.finding.finders import finders
from benchmarks.finding.queries import HALVES, Finder, Query, load
from packlore.library import Library
from packlore.locate import locate

ALL, UNCOVERED = "all covered", "uncovered"


def main() -> None:
    """Print the tables of one half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", default="report", choices=HALVES)
    parser.add_argument("--misses", action="store_true", help="of the tune half, what went wrong")
    arguments = parser.parse_args()
    library = Library.open(locate())
    queries = load(arguments.half)
    print(f"{len(queries)} queries of the half {arguments.half!r}")
    for name, find in finders(library):
        quality(name, find, queries)
    cost(library, queries)
    if arguments.misses and arguments.half == "tune":
        misses(library, queries)


def quality(name: str, find: Finder, queries: list[Query]) -> None:
    """Success at 1 and 3, MRR at 5, the share answered, and the time, by kind."""
    rows: dict[str, list[tuple[bool, bool, float, bool]]] = defaultdict(list)
    spent: list[float] = []
    for query in queries:
        start = time.perf_counter()
        found = find(query.text)
        spent.append(time.perf_counter() - start)
        rank = next((n for n, each in enumerate(found, 1) if each in query.rules), 0)
        row = (rank == 1, 1 <= rank <= 3, 1 / rank if rank else 0.0, bool(found))
        rows[query.kind].append(row)
        if query.rules:
            rows[ALL].append(row)
    print(f"\n{name:14}    n    s@1    s@3  mrr@5  answered")
    for kind in sorted(rows, key=lambda kind: (kind == UNCOVERED, kind != ALL, kind)):
        n = len(rows[kind])
        means = [sum(column) / n for column in zip(*rows[kind], strict=True)]
        scores = (
            "      -      -      -"
            if kind == UNCOVERED
            else "".join(f"{mean:7.3f}" for mean in means[:3])
        )
        print(f"  {kind:12} {n:4}{scores}{means[3]:10.3f}")
    spent.sort()
    middle, late = spent[len(spent) // 2], spent[int(len(spent) * 0.99)]
    print(f"  a query took {middle * 1000:.2f} ms (p50), {late * 1000:.2f} ms (p99)")


def cost(library: Library, queries: list[Query]) -> None:
    """Calls and tokens from the query to the text of the right rule, by kind."""
    fixed = standing(library)
    kinds: dict[str, list[Query]] = defaultdict(list)
    for query in queries:
        kinds[query.kind].append(query)
        if query.rules:
            kinds[ALL].append(query)
    print(f"\ncost to the rule: each session pays {fixed} tokens for tools and instructions")
    print("                   n  calls  tokens (median)  (p90)  with the session's")
    for kind in sorted(kinds, key=lambda kind: (kind == UNCOVERED, kind != ALL, kind)):
        paths = [path(library, query) for query in kinds[kind]]
        walked = [each for each in paths if each.found] or paths
        used = sorted(each.tokens for each in walked)
        calls = statistics.mean(each.calls for each in walked)
        middle = statistics.median(used)
        print(
            f"  {kind:12} {len(walked):5} {calls:6.2f} {middle:16.0f} {used[int(len(used) * 0.9)]:6}"
            f" {middle + fixed:19.0f}"
        )


def misses(library: Library, queries: list[Query]) -> None:
    """What did not come first, and what was answered though nothing fits."""
    for query in queries:
        found = [hit.item.id for hit in library.search(query.text)]
        if (found[:1] and found[0] not in query.rules) or (query.rules and not found):
            print(f"[{query.kind}] {query.text[:300]!r}\n   want {query.rules} got {found[:4]}")


if __name__ == "__main__":
    main()
