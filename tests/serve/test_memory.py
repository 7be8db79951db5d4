"""The memory of a server stays where it is, whatever it is asked: `make bench-memory` asks more."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.memory import measure, serving

pytestmark = pytest.mark.skipif(os.name == "nt", reason="asks ps for the memory")

REQUESTS = 2_000
GROWTH = 1.35
"""The memory at the end by that after four tenths: the words that are kept, 65,536, have come."""


@pytest.mark.timeout(600)
def test_two_thousand_requests_of_all_sizes_leave_nothing_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("PACKLORE_SEED") or random.randrange(2**32))
    print(f"PACKLORE_SEED={seed}")  # noqa: T201 to repeat a failure
    statuses: dict[int, int] = {}
    with serving(tmp_path) as program:
        found = measure(program, REQUESTS, seed, lambda *row: statuses.update(row[-1]))
    assert set(statuses) == {200}, statuses
    assert found[-1] < GROWTH * found[4], found
