"""Little's law sizes a pool so that requests hardly wait; the formula without time does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import factorial
from statistics import mean
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database

RATE = 20  # requests a second
QUERIES = 5  # in each of them
QUERY = 0.06  # seconds
REQUESTS = 24
LOAD = {
    "requests_per_second": RATE,
    "seconds_held": QUERIES * QUERY,
    "concurrent_requests": round(RATE * QUERIES * QUERY),
    "queries_per_request": QUERIES,
}


@asynccontextmanager
async def _running(block: Block, database: Database) -> AsyncIterator[Any]:
    given = {**LOAD, "url": database.url()}
    module = block.run(**{name: given[name] for name in block.given})
    try:
        yield module
    finally:
        await module.engine.dispose()


async def _request(engine: AsyncEngine) -> tuple[float, float]:
    """How long a request waited for its connection, and how long it held it."""
    begun = time.perf_counter()
    async with engine.connect() as connection:
        got = time.perf_counter()
        for _ in range(QUERIES):
            await connection.execute(text(f"SELECT pg_sleep({QUERY})"))
    return got - begun, time.perf_counter() - got


async def _wait_over_work(engine: AsyncEngine) -> float:
    """The mean wait for a connection over the mean time of holding it, at a steady rate."""
    opened = [await engine.connect() for _ in range(engine.pool.size())]  # type: ignore[attr-defined]
    for each in opened:
        await each.close()
    requests = []
    async with asyncio.timeout(30):
        for _ in range(REQUESTS):
            requests.append(asyncio.ensure_future(_request(engine)))
            await asyncio.sleep(1 / RATE)
        waited, held = zip(*await asyncio.gather(*requests), strict=True)
    return float(mean(waited) / mean(held))


async def test_incorrect_gives_less_to_requests_that_hold_longer_and_they_wait(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _running(incorrect, database) as module:
        assert [module.pool_size(60, queries) for queries in (1, 3, 10)] == [90, 30, 9]
        assert module.engine.pool.size() == 2
        assert await _wait_over_work(module.engine) > 2
    witness.observed(
        incorrect="20 requests/s, each 5 queries of 60 ms: pool of 2, mean wait over twice the mean work"
    )


async def test_correct_gives_more_to_requests_that_hold_longer_and_they_hardly_wait(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _running(correct, database) as module:
        assert [module.pool_size(RATE, queries * 0.03) for queries in (1, 3, 10)] == [1, 3, 9]
        assert module.engine.pool.size() == 9
        assert await _wait_over_work(module.engine) < 0.5
    witness.observed(correct="the same load: pool of 9, mean wait below half of the mean work")


def _share_that_waits(load: float, pool: int) -> float:
    """Of requests at random times, by Erlang's formula C."""
    full = load**pool / factorial(pool) * pool / (pool - load)
    return full / (sum(load**size / factorial(size) for size in range(pool)) + full)


async def test_correct_lets_1_in_5_random_requests_wait_at_a_load_of_6_and_1_in_3_at_1(
    correct: Block, database: Database
) -> None:
    async with _running(correct, database) as module:
        pools = {load: module.pool_size(load * 10, 0.1) for load in (6, 1)}
    shares = [_share_that_waits(load, pool) for load, pool in pools.items()]
    assert [round(1 / share) for share in shares] == [5, 3]


async def test_a_pool_serves_no_more_than_its_size_over_the_time_of_holding(
    database: Database,
) -> None:
    engine = create_async_engine(database.url(), pool_size=2, max_overflow=0)
    try:
        begun = time.perf_counter()
        async with asyncio.timeout(30):
            held = [each for _, each in await asyncio.gather(*(_request(engine) for _ in range(6)))]
        rate = 6 / (time.perf_counter() - begun)
    finally:
        await engine.dispose()
    assert rate <= 2 / mean(held) * 1.01
