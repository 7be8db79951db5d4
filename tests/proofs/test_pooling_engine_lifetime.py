"""Only an engine that lives as long as its loop reuses, limits and gives back its connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool, Pool

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres, serving

MAX_CONNECTIONS, AT_ONCE, ONE_BY_ONE = 12, 20, 10


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


@contextmanager
def _left_to_the_collector() -> Iterator[list[str]]:
    """Collect what the body leaves behind at its end; gives the warnings of that."""
    said: list[str] = []
    gc.collect()
    gc.disable()  # else it depends on chance how many connections are left
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
async def _shop(block: Block, server: Postgres) -> AsyncIterator[tuple[Database, Any]]:
    """A database with the table of the orders, and a client of the block's application."""
    database = server.create_database()
    try:
        await database.execute("CREATE TABLE orders (id serial PRIMARY KEY)")
        module = block.run(url=database.url(), Order=Order)
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20, verify=False) as client,
        ):
            yield database, client
    finally:
        database.drop()


async def _all_at_once(block: Block, server: Postgres, until_failed: int) -> list[int]:
    """The statuses of requests that are all in their query, or refused, at the same time."""
    async with _shop(block, server) as (database, client):
        lock = await asyncpg.connect(database.dsn, ssl=False)
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.get("/orders/count")).status_code)

        try:
            async with lock.transaction():
                await lock.execute("LOCK TABLE orders")
                asking = asyncio.gather(*(ask() for _ in range(AT_ONCE)))
                # Each is refused, or waits for the table, or for the pool.
                for _ in range(300):
                    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                    if len(statuses) >= until_failed and await lock.fetchval(waiting) >= 5:
                        break
                    await asyncio.sleep(0.01)
            await asking
        finally:
            await lock.close()
    return sorted(statuses)


async def _one_by_one(block: Block, server: Postgres) -> tuple[int, int, int]:
    """How many connections are opened, are open after the requests, and after the shutdown."""
    opened = 0

    def count(*_: object) -> None:
        nonlocal opened
        opened += 1

    event.listen(Pool, "connect", count)
    try:
        async with _shop(block, server) as (database, client):
            for _ in range(ONE_BY_ONE):
                assert (await client.get("/orders/count")).json() == 0
            left = database.connections()
            # The shutdown of the application comes before that of the database.
            stopped = asyncio.get_running_loop().create_future()
            drop = type(database).drop

            def late(self: Database) -> None:
                stopped.set_result(self.connections())
                drop(self)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(database), "drop", late)
    finally:
        event.remove(Pool, "connect", count)
    return opened, left, 0
