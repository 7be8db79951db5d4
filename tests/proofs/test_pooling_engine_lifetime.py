"""Only an engine that lives as long as its loop reuses, limits and gives back its connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool, Pool

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres, serving

MAX_CONNECTIONS, AT_ONCE, ONE_BY_ONE = 12, 20, 10
FREE = MAX_CONNECTIONS - 1  # one connection holds the lock
POOL = 5


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(scope="module")
def small() -> Iterator[Postgres]:
    """A server with few connections."""
    with Postgres(max_connections=MAX_CONNECTIONS) as server:
        yield server


@pytest.fixture
def orders(small: Postgres) -> Iterator[Database]:
    """A database on the server with few connections."""
    database = small.create_database()
    yield database
    database.drop()


@contextmanager
def _left_to_the_collector() -> Iterator[list[str]]:
    """Collect what the body leaves behind at its end, and give the warnings of that."""
    said: list[str] = []
    gc.collect()
    gc.disable()  # else it is chance how many connections are left
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield said
            finally:
                gc.collect()
        said += [f"{each.category.__name__}: {each.message}" for each in caught]
    finally:
        gc.enable()


@asynccontextmanager
async def _shop(block: Block, database: Database) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """How to ask the block's application for the count of orders; gives the status."""
    await database.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY)")
    module = block.run(url=database.url(), Order=Order)
    async with (
        serving(module.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=20, verify=False) as client,
    ):

        async def ask() -> int:
            return (await client.get("/orders/count")).status_code

        yield ask


async def _all_at_once(block: Block, database: Database, *, inside: int, refused: int) -> list[int]:
    """The statuses of requests that are at the same time in their query, refused, or waiting."""
    async with _shop(block, database) as ask:
        lock = await asyncpg.connect(database.dsn, ssl=False)
        asking: list[asyncio.Future[int]] = []
        try:
            async with lock.transaction(), asyncio.timeout(8):
                await lock.execute("LOCK TABLE orders")
                asking += [asyncio.ensure_future(ask()) for _ in range(AT_ONCE)]
                query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                while (
                    await lock.fetchval(query) < inside
                    or sum(each.done() for each in asking) < refused
                ):
                    await asyncio.sleep(0.02)
            return await asyncio.gather(*asking)
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await lock.close()


async def _one_by_one(block: Block, database: Database) -> dict[str, int]:
    """How many connections are opened, and are open after the requests and after the shutdown."""
    seen = {"opened": 0}

    def count(*_: object) -> None:
        seen["opened"] += 1

    event.listen(Pool, "connect", count)
    try:
        async with _shop(block, database) as ask:
            assert [await ask() for _ in range(ONE_BY_ONE)] == [200] * ONE_BY_ONE
            seen["left"] = database.connections()
    finally:
        event.remove(Pool, "connect", count)
    for _ in range(100):  # the server notices a closed connection some milliseconds late
        if not database.connections():
            break
        await asyncio.sleep(0.01)
    return {**seen, "after shutdown": database.connections()}


async def test_incorrect_takes_all_connections_of_the_server(
    incorrect: Block, orders: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with _left_to_the_collector():
        statuses = await _all_at_once(incorrect, orders, inside=FREE, refused=AT_ONCE - FREE)
    assert sorted(statuses) == [200] * FREE + [500] * (AT_ONCE - FREE)


async def test_correct_keeps_to_its_pool(correct: Block, orders: Database) -> None:
    assert await _all_at_once(correct, orders, inside=POOL, refused=0) == [200] * AT_ONCE


async def test_incorrect_leaves_a_connection_behind_for_each_request(
    incorrect: Block, orders: Database, witness: Witness
) -> None:
    with _left_to_the_collector() as said:
        seen = await _one_by_one(incorrect, orders)
    every = ONE_BY_ONE
    assert seen == {"opened": every, "left": every, "after shutdown": every}
    witness.saw(*said)
    witness.observed(
        incorrect="20 requests at once, 11 connections free: 9 got 500; "
        "10 requests left 10 connections, also after shutdown"
    )


async def test_correct_opens_one_connection_and_closes_it(
    correct: Block, orders: Database, witness: Witness
) -> None:
    assert await _one_by_one(correct, orders) == {"opened": 1, "left": 1, "after shutdown": 0}
    witness.observed(
        correct="20 requests at once: all 200 over 5 connections; "
        "10 requests opened 1 connection, 0 after shutdown"
    )


async def _in_loops_of_their_own(engine: AsyncEngine, *, dispose: bool = False) -> list[str]:
    """What three runs of asyncio.run over one engine give, or raise."""

    async def use() -> str:
        try:
            async with engine.connect() as connection:
                return str((await connection.execute(text("SELECT 7"))).scalar_one())
        except Exception as error:
            return "".join(traceback.format_exception(error))
        finally:
            if dispose:
                await engine.dispose()

    def run() -> str:
        return asyncio.run(use())

    # In threads, since this thread has a loop that runs.
    return [await asyncio.to_thread(run) for _ in range(3)]


@pytest.mark.parametrize("pre_ping", [False, True])
async def test_with_asyncpg_an_engine_fails_in_a_second_loop(
    database: Database, witness: Witness, caplog: pytest.LogCaptureFixture, pre_ping: bool
) -> None:
    # Their log records would keep the connection of the loop that is gone.
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")
    caplog.set_level(logging.CRITICAL, "asyncio")
    settings: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_pre_ping": pre_ping}
    with _left_to_the_collector():
        seen = await _in_loops_of_their_own(create_async_engine(database.url(), **settings))
    assert seen[0] == "7"
    assert "attached to a different loop" in seen[1]
    assert (seen[2] == "7") is pre_ping
    witness.saw(*seen)


async def test_dispose_null_pool_and_psycopg_work_in_several_loops(database: Database) -> None:
    url = database.url()
    disposed, unpooled = create_async_engine(url), create_async_engine(url, poolclass=NullPool)
    psycopg = create_async_engine(database.url("psycopg"))
    assert await _in_loops_of_their_own(disposed, dispose=True) == ["7"] * 3
    assert await _in_loops_of_their_own(unpooled) == ["7"] * 3
    assert await _in_loops_of_their_own(psycopg) == ["7"] * 3
    await psycopg.dispose()


FORK = """
import asyncio, os, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(sys.argv[1], pool_size=1, max_overflow=0)

async def backend():
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

parent = asyncio.run(backend())
for dispose in (False, True):
    reading, writing = os.pipe()
    if os.fork() == 0:
        if dispose:
            engine.sync_engine.dispose(close=False)
        os.write(writing, str(asyncio.run(backend())).encode())
        os._exit(0)
    os.wait()
    print(int(os.read(reading, 20)) == parent)
print(asyncio.run(backend()) == parent)
asyncio.run(engine.dispose())
"""


def test_a_forked_child_uses_its_parents_connection_unless_it_drops_the_pool(
    database: Database,
) -> None:
    command = [sys.executable, "-c", FORK, database.url("psycopg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["True", "False", "True"], "")
