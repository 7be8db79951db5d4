"""The memory of a server stays where it is, whatever it is asked: `make bench-memory` asks more."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.memory import long_word, measure, serving

pytestmark = pytest.mark.skipif(os.name == "nt", reason="asks ps for the memory")

REQUESTS = 1_400
GROWTH = 1.35
"""The memory at the end by that after four tenths: the words that are kept, 65,536, have come."""
LONG = 600
GROWTH_LONG = 1.12
"""The same after requests of one long word each: kept, they would be a third of all memory."""


@pytest.mark.timeout(600)
def test_two_thousand_requests_of_all_sizes_leave_nothing_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("PACKLORE_SEED") or random.randrange(2**32))
    print(f"PACKLORE_SEED={seed}")  # noqa: T201 to repeat a failure
    statuses: dict[int, int] = {}
    with serving(tmp_path) as program:
        found = measure(program, REQUESTS, seed, lambda *row: statuses.update(row[-1]))
        more = measure(program, LONG, seed, lambda *row: statuses.update(row[-1]), long_word)
    assert set(statuses) == {200}, statuses
    assert found[-1] < GROWTH * found[4], found
    assert more[-1] < GROWTH_LONG * more[0], more
