"""A pool that is sized by its load hardly makes requests wait; one sized by the cores does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import factorial
from statistics import mean
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import ROOT, Block, Witness
from tests.services import Database

RATE = 20  # requests a second
HELD = 0.3  # seconds
REQUESTS = 40


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


@asynccontextmanager
async def _running(block: Block, database: Database) -> AsyncIterator[Any]:
    given = {"url": database.url(), "requests_per_second": RATE, "seconds_held": HELD}
    module = block.run(**{name: given[name] for name in block.given})
    try:
        yield module
    finally:
        await module.engine.dispose()


async def _share_that_waited(engine: AsyncEngine) -> float:
    """Of requests at random times, how many found all connections in use."""
    pool: Any = engine.pool
    opened = [await engine.connect() for _ in range(pool.size())]
    for each in opened:
        await each.close()
    waited = 0

    async def request() -> None:
        nonlocal waited
        waited += pool.checkedout() >= pool.size()
        async with engine.connect():
            await asyncio.sleep(HELD)

    chance = random.Random(7)
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        for _ in range(REQUESTS):
            group.create_task(request())
            await asyncio.sleep(chance.expovariate(RATE))
    return waited / REQUESTS


def _erlang_c(load: float, pool: int) -> float:
    """The share of requests at random times that wait, from the textbook."""
    if pool <= load:
        return 1.0
    full = load**pool / factorial(pool) * pool / (pool - load)
    return full / (sum(load**size / factorial(size) for size in range(pool)) + full)


async def test_correct_is_the_smallest_pool_in_which_1_in_100_waits(
    correct: Block, database: Database
) -> None:
    text = (ROOT / correct.path).read_text("utf-8")
    cells = [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if line[:1] == "|"]
    loads, _, pools = cells
    async with _running(correct, database) as module:
        assert [str(module.pool_size(float(load) * 10, 0.1)) for load in loads] == pools
        for load in (0.2, 0.5, 1, 2.5, 6, 7, 12, 24, 48):
            pool = module.pool_size(load * 10, 0.1)
            assert _erlang_c(load, pool) <= 0.01 < _erlang_c(load, pool - 1 or 1)
            assert module.waiting(load, pool) == pytest.approx(_erlang_c(load, pool))
        assert module.pool_size(0.05, 0.1) == 1
        assert (module.waiting(6, 6), module.waiting(6, 5)) == (1, 1)
        assert (module.engine.pool.size(), module.engine.pool._max_overflow) == (13, 0)


async def test_incorrect_makes_most_requests_wait(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _running(incorrect, database) as module:
        assert module.engine.pool.size() == 5
        assert await _share_that_waited(module.engine) > 0.5
    witness.observed(
        incorrect="a load of 6, two cores: a pool of 5, over half of 40 requests at random waited"
    )


async def test_correct_hardly_makes_any_request_wait(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _running(correct, database) as module:
        assert module.engine.pool.size() == 13
        assert await _share_that_waited(module.engine) < 0.25
    witness.observed(correct="the same load: a pool of 13, under a quarter of 40 waited")


async def test_a_pool_serves_no_more_than_its_size_over_the_time_of_holding(
    database: Database,
) -> None:
    engine = create_async_engine(database.url(), pool_size=2, max_overflow=0)
    held = []

    async def request() -> None:
        async with engine.connect():
            got = time.perf_counter()
            await asyncio.sleep(0.2)
            held.append(time.perf_counter() - got)

    try:
        begun = time.perf_counter()
        async with asyncio.timeout(30):
            await asyncio.gather(*(request() for _ in range(6)))
        rate = 6 / (time.perf_counter() - begun)
    finally:
        await engine.dispose()
    assert rate <= 2 / mean(held) * 1.01
