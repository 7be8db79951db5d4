"""Rows that are read 1,000 at a time leave the memory and the event loop free."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, event, func, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.ext.asyncio.exc import AsyncMethodRequired
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

ROWS = 10_000
PER = {"yield_per": 1_000}
CURSORS = "SELECT count(*) FROM pg_cursors WHERE statement LIKE '%FROM orders%'"
CURSORS += " AND statement NOT LIKE '%pg_cursors%'"


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    amount: Mapped[int]
    lines: Mapped[list[Line]] = relationship(lazy="raise")


Work = Callable[[AsyncSession], AsyncIterator[Any]]


@asynccontextmanager
async def _session(
    database: Database, rows: int = ROWS, driver: str = "asyncpg"
) -> AsyncIterator[AsyncSession]:
    """A session with a connection, over a database whose orders lie in the wrong order."""
    async with (
        engine_with(Base, database.url(driver)) as engine,
        AsyncSession(engine, expire_on_commit=False) as session,
    ):
        await session.execute(
            text(
                "INSERT INTO orders (id, number, amount) SELECT n, 'n' || n, n % 7"
                f" FROM generate_series({rows}, 1, -1) n"
            )
        )
        await session.execute(text("INSERT INTO lines (order_id) SELECT id FROM orders"))
        await session.commit()
        await session.connection()
        yield session


@contextmanager
def _statements() -> Iterator[list[str]]:
    sent: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


async def _peak(session: AsyncSession, work: Work) -> float:
    """The memory that the work needed at most, in MB."""
    session.expunge_all()
    gc.collect()
    tracemalloc.start()
    try:
        count = 0
        async with asyncio.timeout(120):
            async for _ in work(session):
                count += 1
        assert count == ROWS
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
        session.expunge_all()


async def _longest_gap(session: AsyncSession, work: Work) -> float:
    """The longest stretch in which the loop ran nothing else, in CPU seconds."""
    gaps: list[float] = []

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            gaps.append(now - last)
            last = now

    async for _ in work(session):  # so that nothing is compiled for the first time below
        pass
    session.expunge_all()
    gc.collect()
    gc.disable()  # its pauses depend on what else the test process holds
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        async for _ in work(session):
            pass
        await asyncio.sleep(0)
    finally:
        gc.enable()
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
    return max(gaps)


async def _without_yield_per(session: AsyncSession) -> AsyncIterator[Order]:
    async for order in await session.stream_scalars(select(Order)):
        yield order


async def _changes(session: AsyncSession) -> AsyncIterator[Order]:
    async for order in await session.stream_scalars(select(Order), execution_options=PER):
        order.amount += 1
        yield order


async def test_incorrect_holds_all_objects_at_once(
    incorrect: Block, correct: Block, database: Database, witness: Witness
) -> None:
    many, few = incorrect.run(Order=Order).lines, correct.run(Order=Order).lines
    async with _session(database) as session:
        small = await _peak(session, few)
        assert small < 4
        for work in many, _without_yield_per, _changes:
            assert await _peak(session, work) > 3 * small
    witness.observed(
        incorrect="10,000 objects: over 3 times the memory of 1,000 at a time",
        correct="10,000 objects in under 4 MB, 1,000 at a time",
    )


async def test_incorrect_stops_the_loop_for_longer(
    incorrect: Block, correct: Block, database: Database
) -> None:
    async with _session(database, 2 * ROWS) as session:
        short = await _longest_gap(session, correct.run(Order=Order).lines)
        long = await _longest_gap(session, incorrect.run(Order=Order).lines)
    assert long > 3 * short


async def test_correct_gives_each_order_in_turn_from_one_cursor(
    correct: Block, database: Database
) -> None:
    async with _session(database, 2_500) as session:
        fetched = 0

        def listen(*_: Any) -> None:
            nonlocal fetched
            fetched += 1

        event.listen(Order, "load", listen)
        try:
            seen = []
            async with aclosing(correct.run(Order=Order).lines(session)) as lines:
                async for line in lines:
                    seen.append((line, fetched))
        finally:
            event.remove(Order, "load", listen)
    assert [line for line, _ in seen] == [f"{n};n{n};{n % 7}\n" for n in range(1, 2_501)]
    assert sorted({count for _, count in seen}) == [1_000, 2_000, 2_500]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_loop_that_ends_early_leaves_its_cursor_to_the_end_of_the_transaction(
    correct: Block, database: Database, driver: str, witness: Witness
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with _session(database, 2_500, driver) as session:
            async with aclosing(correct.run(Order=Order).lines(session)) as lines:
                async for _ in lines:
                    break
            assert len(session.identity_map) <= 1_000  # no more than one batch was ever built
            assert await session.scalar(text(CURSORS)) == 1
            await session.commit()
            assert await session.scalar(text(CURSORS)) == 0
        gc.collect()
    told = [f"{each.category.__name__}: {each.message}" for each in caught]
    assert bool(told) is (driver == "psycopg")
    witness.saw(*told)


async def test_close_closes_the_cursor_of_a_loop_that_ends_early(database: Database) -> None:
    async with _session(database, 2_500, "psycopg") as session:
        result = await session.stream_scalars(select(Order), execution_options=PER)
        async for _ in result:
            break
        await result.close()
        assert await session.scalar(text(CURSORS)) == 0


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_statement_may_run_between_two_rows_and_a_commit_may_not(
    correct: Block, database: Database, driver: str, witness: Witness
) -> None:
    async with _session(database, 2_500, driver) as session:
        work = correct.run(Order=Order).lines
        seen = 0
        async for _ in work(session):
            seen += 1
            if seen % 500 == 0:
                assert await session.scalar(select(func.count()).select_from(Line)) == 2_500
        assert seen == 2_500
        seen = 0
        with pytest.raises(Exception, match="cursor") as raised:
            async for _ in work(session):
                seen += 1
                if seen == 500:
                    await session.commit()
        assert seen == 1_000
        witness.saw(raised.value)


async def test_rows_added_during_the_stream_are_not_in_it(database: Database) -> None:
    async with _session(database, 2_500) as session:
        seen = 0
        async for _ in await session.stream_scalars(select(Order), execution_options=PER):
            seen += 1
            if seen == 1:
                add = "INSERT INTO orders (id, number, amount) VALUES (9999, 'late', 1)"
                await database.execute(add)
        assert seen == 2_500
        assert await session.scalar(select(func.count()).select_from(Order)) == 2_501


async def test_execute_and_scalars_refuse_yield_per(database: Database, witness: Witness) -> None:
    async with _session(database, 10) as session:
        for ask in session.execute, session.scalars:
            with pytest.raises(AsyncMethodRequired) as raised:
                await ask(select(Order), execution_options=PER)
            witness.saw(raised.value)


async def test_a_collection_comes_by_selectinload_only(
    database: Database, witness: Witness
) -> None:
    async with _session(database, 2_500) as session:
        query = select(Order).execution_options(**PER)
        with _statements() as sent:
            count = 0
            async for order in await session.stream_scalars(
                query.options(selectinload(Order.lines))
            ):
                count += len(order.lines)
        assert count == 2_500
        assert len(sent) == 1 + 5  # selectinload asks for 500 parents at a time
        with pytest.raises(InvalidRequestError) as raised:
            await session.stream_scalars(query.options(joinedload(Order.lines)))
        witness.saw(raised.value)


async def test_rows_and_lists_come_in_batches_too(database: Database) -> None:
    async with _session(database, 2_500) as session:
        query = select(Order.id).execution_options(**PER)
        sizes = [len(rows) async for rows in (await session.stream(query)).partitions()]
        assert sizes == [1_000, 1_000, 500]
        scalars = await session.stream_scalars(query)
        assert [len(rows) async for rows in scalars.partitions()] == sizes


async def test_a_connection_streams_without_yield_per(database: Database) -> None:
    query = select(Order.__table__)

    async def peak(connection: AsyncConnection, *, stream: bool) -> float:
        gc.collect()
        tracemalloc.start()
        try:
            if stream:
                async with connection.stream(query) as result:
                    count = len([None async for _ in result])
            else:
                count = len([None for _ in await connection.execute(query)])
            assert count == ROWS
            return tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    async with _session(database) as session:
        connection = await session.connection()
        streamed = await peak(connection, stream=True)
        assert await peak(connection, stream=False) > 3 * streamed
