"""Only an engine that lives as long as its loop reuses, limits and gives back its connections."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import Pool

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres, serving

MAX_CONNECTIONS, AT_ONCE, ONE_BY_ONE = 12, 20, 10
FREE = MAX_CONNECTIONS - 1  # one connection holds the lock
POOL = 8


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


async def _one_by_one(block: Block, database: Database, *, stay: int) -> dict[str, int]:
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
    for _ in range(50):  # the server notices a closed connection some milliseconds late
        if database.connections() == stay:
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
        seen = await _one_by_one(incorrect, orders, stay=ONE_BY_ONE)
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
    assert await _one_by_one(correct, orders, stay=0) == {
        "opened": 1,
        "left": 1,
        "after shutdown": 0,
    }
    witness.observed(
        correct="20 requests at once: all 200 over 8 connections; "
        "10 requests opened 1 connection, 0 after shutdown"
    )


async def test_correct_commits_what_a_route_writes_and_leaves_it_readable(
    correct: Block, orders: Database
) -> None:
    await orders.execute("CREATE TABLE orders (id serial PRIMARY KEY)")
    module = correct.run(url=orders.url(), Order=Order)
    app: FastAPI = module.app

    @app.post("/orders")
    async def create(session: Any = module.Session.__metadata__[0]) -> None:
        session.add(Order())

    async with (
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=20, verify=False) as client,
    ):
        assert (await client.post("/orders")).status_code == 200
        async with app.state.sessions.begin() as session:
            order = Order()
            session.add(order)
        assert order.id == 2
    assert await orders.fetchval("SELECT count(*) FROM orders") == 2


def _run(script: str, *arguments: str) -> Any:
    """What a program of its own prints, as JSON."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


LOOPS = """
import asyncio, json, sys, traceback
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

asyncpg, psycopg = sys.argv[1:]

async def one_use(engine):
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT 7"))).scalar_one()
    except Exception as error:
        return "".join(traceback.format_exception(error))

async def use(engine, dispose, tasks):
    try:
        seen = await asyncio.gather(*(one_use(engine) for _ in range(tasks)))
        return next((each for each in seen if each != 7), 7)
    finally:
        if dispose:
            await engine.dispose()

def three_loops(url, dispose=False, tasks=1, **settings):
    engine = create_async_engine(url, **settings)
    return [asyncio.run(use(engine, dispose, tasks)) for _ in range(3)]

one = {"pool_size": 1, "max_overflow": 0}
print(json.dumps({
    "asyncpg": three_loops(asyncpg, **one),
    "pre_ping": three_loops(asyncpg, pool_pre_ping=True, **one),
    "disposed": three_loops(asyncpg, dispose=True),
    "NullPool": three_loops(asyncpg, poolclass=NullPool),
    "psycopg": three_loops(psycopg, **one),
    **{f"{name} waits{how}": three_loops(url, tasks=3, **settings)
       for name, url in (("asyncpg", asyncpg), ("psycopg", psycopg))
       for how, settings in (
           ("", one),
           (", disposed", {**one, "dispose": True}),
           (", NullPool", {"poolclass": NullPool}),
       )},
}))
"""


def test_an_engine_fails_in_a_second_loop_unless_it_is_disposed_of_or_has_no_pool(
    database: Database, witness: Witness
) -> None:
    seen = _run(LOOPS, database.url(), database.url("psycopg"))
    first, second, third = seen["asyncpg"]
    assert first == 7
    assert "attached to a different loop" in second
    witness.saw(second, third)
    first, second, third = seen["pre_ping"]
    assert (first, third) == (7, 7)
    assert "attached to a different loop" in second
    for cured in ("disposed", "NullPool", "psycopg"):
        assert seen[cured] == [7, 7, 7]
    first, second, _ = seen["psycopg waits"]
    assert first == 7
    assert "is bound to a different event loop" in second
    witness.saw(second)
    assert seen["asyncpg waits"][1] != 7
    for driver in ("asyncpg", "psycopg"):
        for cure in ("disposed", "NullPool"):
            assert seen[f"{driver} waits, {cure}"] == [7, 7, 7]


FORK = """
import asyncio, json, os, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(sys.argv[1], pool_size=1, max_overflow=0)

async def backend():
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

parent, same = asyncio.run(backend()), []
for dispose in (False, True):
    reading, writing = os.pipe()
    if os.fork() == 0:
        if dispose:
            engine.sync_engine.dispose(close=False)
        os.write(writing, str(asyncio.run(backend())).encode())
        os._exit(0)
    os.wait()
    same.append(int(os.read(reading, 20)) == parent)
print(json.dumps([*same, asyncio.run(backend()) == parent]))
"""


def test_a_forked_child_uses_its_parents_connection_unless_it_drops_the_pool(
    database: Database,
) -> None:
    assert _run(FORK, database.url("psycopg")) == [True, False, True]
