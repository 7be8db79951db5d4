"""A session that is not closed keeps its connection, and a checkout event names who took it."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.services import Database

SIZE = 5
IDLE = (
    "SELECT query FROM pg_stat_activity"
    " WHERE datname = current_database() AND state = 'idle in transaction'"
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def orders(database: Database) -> Database:
    await database.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    await database.execute("INSERT INTO orders VALUES (7)")
    return database


@contextmanager
def _collected() -> Iterator[list[str]]:
    """Collect what the body leaves behind at its end, and give the warnings of that."""
    said: list[str] = []
    logger = logging.getLogger("sqlalchemy.pool")
    logger.setLevel(logging.CRITICAL)  # caplog would keep the error of SQLAlchemy 2.0.0
    gc.collect()
    gc.disable()  # else it is chance how long a leak lasts
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield said
            finally:
                for _ in range(3):  # what one collection frees may leave a cycle behind
                    gc.collect()
        said += [f"{each.category.__name__}: {each.message}" for each in caught]
    finally:
        gc.enable()
        logger.setLevel(logging.NOTSET)


async def _outcome(call: Any) -> Any:
    """What it gives; of an error the text, since the error would keep the session alive."""
    try:
        return await call
    except Exception as error:
        return "".join(traceback.format_exception(error))


def _out(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    return int(pool.checkedout())


async def _five_missing_orders(block: Block, database: Database) -> tuple[int, int, Any]:
    """Connections that are out, and idle in transaction; then what an order that exists gives."""
    module = block.run(url=database.url(), Order=Order)
    try:
        for _ in range(SIZE):
            assert "NoResultFound" in await _outcome(module.find_order(404))
        out, idle = _out(module.engine), await database.fetch(IDLE)
        found = await _outcome(module.find_order(7))
        return out, len(idle), found if isinstance(found, str) else found.id
    finally:
        gc.collect()
        await module.engine.dispose()


async def test_incorrect_keeps_a_connection_for_each_error(
    incorrect: Block, orders: Database, witness: Witness
) -> None:
    with _collected():
        out, idle, found = await _five_missing_orders(incorrect, orders)
    assert (out, idle) == (SIZE, SIZE)
    assert "QueuePool limit of size 5 overflow 0 reached" in found
    witness.saw(found)
    witness.observed(incorrect="5 failed look-ups: 5 of 5 connections out, the next call fails")


async def test_correct_gives_them_back(correct: Block, orders: Database, witness: Witness) -> None:
    with _collected():
        assert await _five_missing_orders(correct, orders) == (0, 0, 7)
    witness.observed(correct="5 failed look-ups: 0 of 5 connections out, the next call answers")


async def _leak(engine: AsyncEngine) -> None:
    session = async_sessionmaker(engine)()
    await session.execute(text("SELECT 'leaked'"))


async def test_correct_names_who_leaks(correct: Block, orders: Database) -> None:
    plain: list[str] = []
    with _collected():
        module = correct.run(url=orders.url(), Order=Order)

        def record(*_: object) -> None:
            plain.append("".join(traceback.format_stack()))

        event.listen(module.engine.sync_engine, "checkout", record)
        pool: Any = module.engine.pool
        assert (pool.size(), pool._max_overflow, pool.timeout()) == (5, 0, 1)
        await module.find_order(7)
        assert module.holders == {}
        async with module.engine.connect():  # taken before the events were registered
            module.holders.clear()
        await _leak(module.engine)
        [holder] = module.holders.values()
        assert any("in _leak\n" in frame for frame in holder)
        assert "in _leak\n" not in plain[-1]
        assert "sqlalchemy/pool" in plain[-1]
        assert [row["query"] for row in await orders.fetch(IDLE)] == ["SELECT 'leaked'"]
        gc.collect()
        assert module.holders == {}
        await module.engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_the_garbage_collector_gives_the_place_back_and_says_so(
    orders: Database, witness: Witness, driver: str
) -> None:
    engine = create_async_engine(orders.url(driver), pool_size=1, max_overflow=0)
    with _collected() as said:
        await _leak(engine)
        assert _out(engine) == 1
    assert _out(engine) == 0
    witness.saw(*said)
    await engine.dispose()


async def test_the_servers_timeout_ends_the_connection_but_keeps_the_place(
    orders: Database,
) -> None:
    settings = {"server_settings": {"idle_in_transaction_session_timeout": "50"}}
    engine = create_async_engine(
        orders.url(), pool_size=1, max_overflow=0, pool_timeout=0.1, connect_args=settings
    )
    with _collected():
        await _leak(engine)
        async with asyncio.timeout(10):
            while orders.connections():
                await asyncio.sleep(0.01)
        with pytest.raises(exc.TimeoutError):
            await engine.connect()
    await engine.dispose()


async def test_a_connection_that_is_returned_in_a_transaction_is_rolled_back(
    orders: Database,
) -> None:
    engine = create_async_engine(orders.url(), pool_size=1, max_overflow=0)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("INSERT INTO orders VALUES (8)"))
        assert (_out(engine), await orders.fetch(IDLE)) == (0, [])
        assert await orders.fetchval("SELECT count(*) FROM orders") == 1
    finally:
        await engine.dispose()
