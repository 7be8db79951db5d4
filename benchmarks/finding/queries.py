"""The queries of the benchmark; README.md says how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
HALVES = ("tune", "report")
ASKED = FOLDER / "asked.json"
"""What the pack's vocabulary is counted from, and the weights are fitted to."""
PHRASES = FOLDER / "phrases.json"
"""Short names for each rule, counted as well."""


@dataclass(frozen=True)
class Query:
    """One query: the rules that fit, best first; none where the pack has no answer."""

    text: str
    kind: str
    rules: tuple[str, ...]


Finder = Callable[[str], Sequence[str]]
"""From a query to the ids of rules, best first; none where it says that nothing fits."""


def load(half: str) -> list[Query]:
    """The queries of `tune`, the half to look at, or `report`, the half to report on."""
    return [
        Query(row["query"], row["kind"], tuple(row["rules"]))
        for name in (f"{half}.jsonl", f"uncovered-{half}.jsonl")
        for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()
        for row in (json.loads(line),)
    ]
