"""How often the right rule comes first, beside simpler searches: `make bench-finding`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

from benchmarks.finding.cost import path, standing
from benchmarks.finding.finders import finders
from benchmarks.finding.queries import Finder, Query, load
from packlore.library import Library
from packlore.locate import locate

ALL, UNCOVERED = "all covered", "uncovered"


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    library = Library.open(locate())
    queries = load()
    print(f"{len(queries)} queries that nobody has tuned to")
    for name, find in finders(library):
        quality(name, find, queries)
    sureness(library, queries)
    cost(library, queries)


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


def sureness(library: Library, queries: list[Query]) -> None:
    """How often the first answer is right, by the word that it comes with and by its score."""
    found = [(query, library.search(query.text)) for query in queries]
    covered = sum(bool(query.rules) for query in queries)
    print("\nthe answer says   of them   right   of covered   of uncovered")
    for word in ("sure", "likely", "weak", "nothing"):
        of = [(q, hits) for q, hits in found if (hits[0].sure if hits else "nothing") == word]
        known = sum(bool(q.rules) for q, _ in of)
        right = sum(bool(hits) and hits[0].item.id in q.rules for q, hits in of)
        print(
            f"  {word:12} {len(of):10} {right / max(1, len(of)):7.3f} {known / covered:12.3f}"
            f" {(len(of) - known) / (len(queries) - covered):14.3f}"
        )
    print("\nscore        of them   said   right")
    for low in range(10):
        band = [(q, hits[0]) for q, hits in found if hits and low <= hits[0].score * 10 < low + 1]
        if band:
            said = statistics.mean(hit.score for _, hit in band)
            share = statistics.mean(hit.item.id in q.rules for q, hit in band)
            print(
                f"  {low / 10:.1f} to {low / 10 + 0.1:.1f} {len(band):7} {said:7.2f} {share:7.2f}"
            )


if __name__ == "__main__":
    main()
