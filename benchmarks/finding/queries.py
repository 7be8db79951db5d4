"""The queries of the benchmark; README.md says how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ASKED = FOLDER / "asked.json"
WRITERS = tuple(
    FOLDER / name for name in ("everyday.json", "tasks.json", "earlier.json", "outside.json")
)
"""Each by others than the rest: the weights are fitted to what a model without them makes of them."""
NEWER = FOLDER / "newer.json"
"""The rules since version 0.4."""
TAUGHT = (ASKED, FOLDER / "phrases.json", *WRITERS, NEWER)
"""What the pack's model is learnt from."""


@dataclass(frozen=True)
class Query:
    """One query: the rules that fit, best first; none where the pack has no answer."""

    text: str
    kind: str
    rules: tuple[str, ...]


Finder = Callable[[str], Sequence[str]]
"""From a query to the ids of rules, best first; none where it says that nothing fits."""


def load() -> list[Query]:
    """The queries to report on. Nobody looks at them while the search changes."""
    return [
        Query(row["query"], row["kind"], tuple(row["rules"]))
        for name in ("report.jsonl", "uncovered-report.jsonl")
        for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()
        for row in (json.loads(line),)
    ]
