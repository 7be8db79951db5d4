"""Only what is measured inside the pool tells an exhausted pool from slow queries."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc, text

from tests.proofs.harness import Block, Witness
from tests.services import Database

SIZE, LIMIT, MANY, FEW = 3, 5, 12, 2


def _metrics(module: Any) -> dict[str, float]:
    """What a scrape gives, by the names without their prefix; buckets are left out."""
    samples = (sample for metric in module.registry.collect() for sample in metric.samples)
    return {
        sample.name.removeprefix("db_pool_"): sample.value
        for sample in samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


@dataclass
class Seen:
    """Scrapes while all tasks are inside, and after the last one is done."""

    during: dict[str, float]
    after: dict[str, float]
    held: float  # seconds for which all of them were inside


@asynccontextmanager
async def _running(block: Block, database: Database) -> AsyncIterator[Any]:
    module = block.run(url=database.url())
    try:
        yield module
    finally:
        await module.engine.dispose()


async def _slow_requests(block: Block, database: Database, tasks: int) -> Seen:
    """Requests whose query waits for a lock, and so does nothing else but hold its connection."""
    await database.execute("CREATE TABLE orders (id int)")
    async with _running(block, database) as module:
        session_scope = asynccontextmanager(module.get_session)

        async def request() -> None:
            async with session_scope() as session:
                await session.execute(text("SELECT count(*) FROM orders"))

        lock = await asyncpg.connect(database.dsn, ssl=False, timeout=10)
        try:
            async with asyncio.timeout(20):
                async with lock.transaction():
                    await lock.execute("LOCK TABLE orders")
                    requests = [asyncio.ensure_future(request()) for _ in range(tasks)]
                    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                    while await lock.fetchval(query) < min(tasks, LIMIT):
                        await asyncio.sleep(0.01)
                    started = time.perf_counter()
                    await asyncio.sleep(0.4)
                    during, held = _metrics(module), time.perf_counter() - started
                await asyncio.gather(*requests)
        finally:
            await lock.close()
        return Seen(during, _metrics(module), held)


async def test_incorrect_sees_no_wait_and_shows_an_idle_pool_as_full(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    seen = await _slow_requests(incorrect, database, MANY)
    assert seen.after["wait_seconds_count"] == MANY
    assert seen.after["wait_seconds_sum"] < seen.held
    assert seen.after["checked_out"] == LIMIT
    witness.observed(
        incorrect="12 requests on 5 connections: waits of about 0; "
        "after them 5 shown as checked out, 0 were"
    )


async def test_correct_sees_the_waits_and_what_is_checked_out(
    correct: Block, database: Database, witness: Witness
) -> None:
    seen = await _slow_requests(correct, database, MANY)
    waiting = MANY - LIMIT
    assert seen.during["waiting"] == waiting
    assert (seen.during["checked_out"], seen.during["size"]) == (LIMIT, SIZE)
    assert seen.during["overflow"] == LIMIT - SIZE
    assert seen.after["wait_seconds_sum"] >= waiting * seen.held
    assert (seen.after["waiting"], seen.after["checked_out"]) == (0, 0)
    witness.observed(
        correct="12 requests on 5 connections: 7 waiting, 5 of 5 checked out, "
        "their waits in the histogram; after them 0"
    )


async def test_correct_commits_what_a_request_writes(correct: Block, database: Database) -> None:
    await database.execute("CREATE TABLE orders (id int)")
    async with (
        _running(correct, database) as module,
        asynccontextmanager(module.get_session)() as session,
    ):
        await session.execute(text("INSERT INTO orders VALUES (1)"))
    assert await database.fetchval("SELECT count(*) FROM orders") == 1


async def test_with_slow_queries_nobody_waits(correct: Block, database: Database) -> None:
    seen = await _slow_requests(correct, database, FEW)
    assert (seen.during["checked_out"], seen.during["waiting"]) == (FEW, 0)
    assert seen.during["wait_seconds_count"] == FEW  # their checkouts are over, the queries not


async def test_a_checkout_that_times_out_is_counted(correct: Block, database: Database) -> None:
    async with _running(correct, database) as module, asyncio.timeout(20):
        module.pool()._timeout = 0.1
        held = [await module.engine.connect() for _ in range(LIMIT)]
        with pytest.raises(exc.TimeoutError):
            await module.engine.connect()
        seen = _metrics(module)
        for connection in held:
            await connection.close()
    assert (seen["wait_seconds_count"], seen["waiting"]) == (LIMIT + 1, 0)
    assert seen["wait_seconds_sum"] >= 0.1


async def test_overflow_starts_below_zero_and_the_gauges_follow_a_dispose(
    correct: Block, database: Database
) -> None:
    async with _running(correct, database) as module:
        assert (module.pool().overflow(), _metrics(module)["overflow"]) == (-SIZE, 0)
        before = module.pool()
        await module.engine.dispose()
        async with module.engine.connect():
            assert module.engine.pool is not before
            assert _metrics(module)["checked_out"] == 1


WORKERS = """
import asyncio, json, os, sys
from prometheus_client import CollectorRegistry, Gauge, multiprocess
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

async def work(ready, go_on):
    engine = create_async_engine(sys.argv[1])
    asked = Gauge("asked", "In use")
    asked.set_function(lambda: engine.pool.checkedout())
    counted = Gauge("counted", "In use", multiprocess_mode="livesum")
    event.listen(engine.sync_engine, "checkout", lambda *_: counted.inc())
    event.listen(engine.sync_engine, "checkin", lambda *_: counted.dec())
    async with engine.connect():
        pass
    async with engine.connect(), engine.connect():
        os.write(ready, b".")
        os.read(go_on, 1)
    await engine.dispose()

(is_ready, ready), (go_on, may_go_on) = os.pipe(), os.pipe()
for _ in range(2):
    if os.fork() == 0:
        asyncio.run(work(ready, go_on))
        os._exit(0)
for _ in range(2):
    os.read(is_ready, 1)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
samples = [each for metric in registry.collect() for each in metric.samples]
os.write(may_go_on, b"..")
for _ in range(2):
    os.wait()
print(json.dumps({name: [each.value for each in samples if each.name == name]
                  for name in ("asked", "counted")}))
"""


def test_in_multiprocess_mode_a_gauge_that_asks_is_0_and_one_that_counts_is_right(
    database: Database, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, database.url()],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == {"asked": [0.0, 0.0], "counted": [4.0]}
