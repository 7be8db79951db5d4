"""references/pool-sizing.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
import gc
import heapq
import random
import statistics
from dataclasses import dataclass
from math import ceil
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.references.harness import (
    LIMIT,
    rows_of,
    run,
)
from tests.services import Database, PgBouncer


def test_the_table_is_what_the_functions_compute() -> None:
    module = run("pool-sizing", "waiting")
    for load, pool, share, needed in rows_of("pool-sizing"):
        assert ceil(int(load) * 1.5) == int(pool)
        percent = float(share.removesuffix(" %"))
        digits = 1 if "." in share else 0
        assert round(100 * module.waiting(int(load), int(pool)), digits) == percent
        assert module.pool_for(int(load)) == int(needed)
    assert module.waiting(7, 7) == module.waiting(6, 5) == 1  # and not a rounded 1
    assert module.pool_for(0.005) == 1
    assert module.pool_for(6, module.waiting(6, 9)) == 9


def test_the_plan_is_what_the_text_works_through() -> None:
    module = run("pool-sizing", "plan")
    service = {"max_connections": 100, "replicas": 4, "processes": 2}
    assert module.plan(80, 0.3, **service) == (9, 0)
    assert 9 * 5 * 2 == 90
    assert 9 * 8 * 2 == 144
    assert module.plan(80, 0.3, **service, surge=4) == (9, 37)
    assert 8 * module.pool_for(3) == 72
    with pytest.raises(ValueError, match="37 connections needed, 25 free"):
        module.plan(80, 0.3, **{**service, "max_connections": 30})


def test_a_plan_takes_each_connection_that_is_free_and_no_more() -> None:
    module = run("pool-sizing", "plan")
    service = {"replicas": 4, "processes": 2}
    assert module.plan(80, 0.3, **service, max_connections=90 + 5) == (9, 0)
    assert module.plan(80, 0.3, **service, max_connections=90 + 4) == (9, 37)
    assert module.plan(80, 0.3, **service, max_connections=37 + 5) == (9, 37)
    with pytest.raises(ValueError, match="37 connections needed, 36 free"):
        module.plan(80, 0.3, **service, max_connections=37 + 4)
    one_process = module.plan(80, 0.3, replicas=8, max_connections=100)
    assert (one_process.pool_size, one_process.pgbouncer) == (9, 0)


def test_the_percentile_of_the_held_time_gives_far_too_much() -> None:
    held = [0.02] * 98 + [2.0] * 2
    assert round(100 * statistics.fmean(held)) == 6
    assert 100 * statistics.quantiles(held, n=100)[98] == 200


@pytest.mark.parametrize("spread", ["random", "fixed"])
def test_the_formula_tells_how_many_requests_wait(spread: str) -> None:
    """In a simulation of 40,000 requests at random times, on a pool of 9 with a load of 6."""
    chance = random.Random(7)
    free_at = [0.0] * 9  # when each connection is free
    now, waited = 0.0, 0
    for _ in range(40_000):
        now += chance.expovariate(6)
        begun = max(now, heapq.heappop(free_at))
        waited += begun > now
        held = chance.expovariate(1) if spread == "random" else 1.0
        heapq.heappush(free_at, begun + held)
    said = run("pool-sizing", "waiting").waiting(6, 9)
    assert 0.7 * said < waited / 40_000 < 1.3 * said


async def test_the_measured_load_counts_what_is_still_out_and_what_was_out_before(
    database: Database,
) -> None:
    engine = create_async_engine(database.url())
    try:
        async with engine.connect():  # unknown to what is made now
            held = run("pool-sizing", "HeldConnections").HeldConnections(engine)
            assert held.load() == 0
            async with engine.connect():
                held.restart()
                await asyncio.sleep(0.1)
                assert 0.99 < held.load() <= 1  # all the time since the restart
            await asyncio.sleep(0.1)
            assert 0 < held.load() < 1
            assert held._since == {}
        assert held.load() < 1
    finally:
        await engine.dispose()


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")
async def test_the_measured_load_counts_no_connection_that_the_garbage_collector_took(
    database: Database,
) -> None:
    engine = create_async_engine(database.url())
    held = run("pool-sizing", "HeldConnections").HeldConnections(engine)

    try:
        await engine.connect()  # and nobody closes it
        gc.collect()
        held.restart()
        await asyncio.sleep(0.05)
        assert (held.load(), held._since) == (0, {})
    finally:
        await engine.dispose()


async def test_pools_behind_pgbouncer_cost_the_server_no_more_than_its_pool(
    pgbouncer: PgBouncer, database: Database
) -> None:
    address = pgbouncer.url(database.name, "psycopg")
    options = {"prepare_threshold": None, "application_name": "shop"}
    engines = [
        create_async_engine(address, pool_size=10, max_overflow=0, connect_args=options)
        for _ in range(4)
    ]
    all_out = asyncio.Barrier(40)

    async def request(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await all_out.wait()
            await connection.execute(text("SELECT pg_sleep(0.1)"))

    try:
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            tasks = [group.create_task(request(each)) for each in engines for _ in range(10)]
            seen = set()
            while not all(task.done() for task in tasks):
                seen.add(await asyncio.to_thread(database.connections))
                await asyncio.sleep(0.02)
        assert 1 <= max(seen) <= 5
    finally:
        for engine in engines:
            await engine.dispose()


@dataclass
class Load:
    """Requests on a pool: how many came, and how many found all its connections in use."""

    came: int = 0
    waited: int = 0


async def _request(engine: AsyncEngine, seconds: float, load: Load) -> None:
    pool: Any = engine.pool
    load.came += 1
    load.waited += pool.checkedout() >= pool.size()
    async with engine.connect():
        await asyncio.sleep(seconds)


async def test_a_pool_by_the_formula_hardly_makes_random_requests_wait(
    database: Database,
) -> None:
    """20 requests a second of 0.1 s on average: a load of 2, on pools of 2 times 1.5 and of 7."""
    measure = run("pool-sizing", "HeldConnections").HeldConnections
    assert run("pool-sizing", "pool_for").pool_for(2) == 7
    engines = [
        create_async_engine(database.url(), pool_size=size, max_overflow=0) for size in (3, 7)
    ]
    chance = random.Random(11)
    loads = [Load(), Load()]
    try:
        for engine, size in zip(engines, (3, 7), strict=True):
            opened = [await engine.connect() for _ in range(size)]
            for each in opened:
                await each.close()
        held = [measure(engine) for engine in engines]
        for each in held:
            each.restart()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for _ in range(120):
                seconds = chance.expovariate(10)
                for engine, load in zip(engines, loads, strict=True):
                    group.create_task(_request(engine, seconds, load))
                await asyncio.sleep(chance.expovariate(20))
        measured = [each.load() for each in held]
    finally:
        for engine in engines:
            await engine.dispose()
    small, large = (load.waited / load.came for load in loads)
    assert small > 0.2
    assert small > 4 * large
    assert all(1 < each < 3 for each in measured)
