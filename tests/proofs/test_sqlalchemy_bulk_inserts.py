"""Rows inserted in chunks, without objects, leave the event loop and the memory free."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy import Engine, event, func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

ROWS = 10_000
VERSION = tuple(map(int, sqlalchemy.__version__.split(".")[:3]))
ORDERED = VERSION >= (2, 0, 10)
RENDERS_NULLS = VERSION >= (2, 0, 23)

Rows = Iterable[dict[str, Any]]
Import = Callable[[AsyncSession, Rows], Awaitable[object]]


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    sensor: Mapped[str]
    value: Mapped[float]
    state: Mapped[str | None] = mapped_column(default="raw")
    level: Mapped[int | None]


class Strict(Base):
    __tablename__ = "strict"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="raw")


def _rows(count: int = ROWS) -> Iterator[dict[str, Any]]:
    return ({"sensor": f"s{number}", "value": number / 7} for number in range(count))


@asynccontextmanager
async def _session(database: Database) -> AsyncIterator[AsyncSession]:
    """A session with a connection, over a database that has the table."""
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        await session.connection()
        yield session


@contextmanager
def _statements() -> Iterator[list[str]]:
    """The statements that are sent in the body."""
    sent: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


async def _inserted(session: AsyncSession) -> int:
    return int(await session.scalar(select(func.count()).select_from(Reading)) or 0)


async def _longest_gap(database: Database, work: Import) -> tuple[float, float]:
    """The longest stretch in which the loop ran nothing else, and all of the work: CPU seconds."""
    gaps: list[float] = []

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            gaps.append(now - last)
            last = now

    async with _session(database) as session:
        await work(session, _rows(10))  # so that nothing is compiled for the first time below
        session.expunge_all()
        gc.collect()
        gc.disable()  # its pauses depend on what else the test process holds
        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        try:
            start = time.thread_time()
            await work(session, _rows())
            total = time.thread_time() - start
        finally:
            gc.enable()
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
        assert await _inserted(session) == ROWS + 10
    return max(gaps), total


async def _peak(database: Database, work: Import) -> tuple[float, int]:
    """The memory that the work needed at most, in MB, and the statements that it sent."""
    async with _session(database) as session:
        await work(session, _rows(10))
        session.expunge_all()
        gc.collect()
        tracemalloc.start()
        try:
            with _statements() as sent:
                await work(session, _rows())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert await _inserted(session) == ROWS + 10
    return peak / 1e6, len(sent)


async def _at_once(session: AsyncSession, rows: Rows) -> None:
    await session.execute(insert(Reading), list(rows))


async def test_correct_takes_a_part_of_the_rows_at_a_time_and_makes_no_objects(
    correct: Block, database: Database
) -> None:
    """As any right answer does, whatever the size of its chunks."""
    taken, ahead, made = 0, [], []

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for row in _rows():
            taken += 1
            yield row

    def sent(*_: Any) -> None:
        ahead.append(taken)

    def build(*_: Any) -> None:
        made.append(1)

    event.listen(Reading, "init", build)
    async with _session(database) as session, asyncio.timeout(60):
        event.listen(Engine, "before_cursor_execute", sent)
        try:
            await correct.run(Reading=Reading).import_readings(session, rows())
        finally:
            event.remove(Engine, "before_cursor_execute", sent)
            event.remove(Reading, "init", build)
        assert await _inserted(session) == ROWS
    assert 0 < ahead[0] <= ROWS / 2
    assert made == []


async def test_correct_takes_1000_rows_at_a_time_from_any_iterable(
    correct: Block, database: Database
) -> None:
    work = correct.run(Reading=Reading).import_readings
    taken = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for row in _rows(2_500):
            taken += 1
            yield row

    seen: list[int] = []

    def listen(*_: Any) -> None:
        seen.append(taken)

    async with _session(database) as session, asyncio.timeout(20):
        event.listen(Engine, "before_cursor_execute", listen)
        try:
            await work(session, rows())
        finally:
            event.remove(Engine, "before_cursor_execute", listen)
        assert seen == [1_000, 2_000, 2_500]
        await work(session, list(_rows(1_001)))
        assert await _inserted(session) == 2_500 + 1_001


def _half_empty(column: str, count: int = 100) -> list[dict[str, Any]]:
    return [{**row, column: None if n % 2 else 1} for n, row in enumerate(_rows(count))]


async def test_correct_sends_none_as_null_and_one_statement(
    correct: Block, database: Database
) -> None:
    work = correct.run(Reading=Reading).import_readings
    rows = [{**row, "state": None} for row in _half_empty("level")]
    async with _session(database) as session:
        with _statements() as sent:
            await work(session, rows)
        assert len(sent) == (1 if RENDERS_NULLS else 100)
        count = select(func.count(Reading.level), func.count(Reading.state))
        # A default takes the place of None where nulls are not rendered.
        assert (await session.execute(count)).one() == (50, 0 if RENDERS_NULLS else 100)


async def test_without_render_nulls_each_change_is_a_statement(database: Database) -> None:
    async with _session(database) as session:
        with _statements() as sent:
            await _at_once(session, _half_empty("level"))
    assert len(sent) == 100


async def test_different_keys_are_different_statements(database: Database) -> None:
    rows = [{**row, "state": "x"} if n % 2 else row for n, row in enumerate(_rows(100))]
    async with _session(database) as session:
        with _statements() as sent:
            await _at_once(session, rows)
    assert len(sent) == 100


async def test_the_first_dictionary_decides_where_a_table_is_given(database: Database) -> None:
    table: Any = Reading.__table__
    rows = [{"sensor": "s", "value": 1.0, "level": None}]
    rows.append({"sensor": "s", "value": 1.0, "level": 1, "state": "lost"})
    async with _session(database) as session:
        with _statements() as sent:
            await session.execute(insert(table), rows)
        assert len(sent) == 1
        assert (await session.scalars(select(Reading.state))).all() == ["raw", "raw"]


async def test_an_unknown_key_is_ignored(correct: Block, database: Database) -> None:
    rows = [{"sensor": "s", "value": 1.0, "levl": 1}]
    async with _session(database) as session:
        await correct.run(Reading=Reading).import_readings(session, rows)
        assert (await session.scalars(select(Reading.level))).all() == [None]


async def test_incorrect_blocks_the_loop_longer_at_a_stretch(
    incorrect: Block, correct: Block, database: Database
) -> None:
    long, work = await _longest_gap(database, incorrect.run(Reading=Reading).import_readings)
    await database.execute("DROP TABLE IF EXISTS readings")
    short, less_work = await _longest_gap(database, correct.run(Reading=Reading).import_readings)
    assert long > 10 * short
    assert work > 2 * less_work
    whole, _ = await _longest_gap(database, _at_once)
    assert whole > 3 * short


async def test_incorrect_needs_more_memory_for_as_many_statements(
    incorrect: Block, correct: Block, database: Database, witness: Witness
) -> None:
    large, statements = await _peak(database, incorrect.run(Reading=Reading).import_readings)
    small, as_many = await _peak(database, correct.run(Reading=Reading).import_readings)
    assert statements == as_many == 10
    assert large > 10 * small
    assert 20 < large < 30
    assert 1 < small < 1.8
    whole, one = await _peak(database, _at_once)
    assert whole > 5 * small
    assert one == 1
    witness.observed(
        incorrect="10,000 rows: 10 statements, 25 MB, longest gap of the loop over 10 times",
        correct="10,000 rows: 10 statements, 1.4 MB, under half of the CPU time",
    )


async def test_values_with_many_rows_has_too_many_parameters(
    database: Database, witness: Witness
) -> None:
    async with _session(database) as session:
        with pytest.raises(DBAPIError) as raised:
            await session.execute(insert(Reading).values(list(_rows(32_768 // 3 + 1))))
        assert raised.value.orig is not None
        witness.saw(raised.value.orig)


async def test_a_flush_for_each_row_sends_a_statement_for_each_row(database: Database) -> None:
    async with _session(database) as session:
        with _statements() as sent:
            for row in _rows(50):
                session.add(Reading(**row))
                await session.flush()
    assert len(sent) == 50


async def test_insert_applies_defaults_and_calls_no_listeners(database: Database) -> None:
    called: list[object] = []

    def listen(_mapper: Any, _connection: Any, target: object) -> None:
        called.append(target)

    event.listen(Reading, "before_insert", listen)
    try:
        async with _session(database) as session:
            await _at_once(session, _rows(3))
            assert (await session.scalars(select(Reading.state))).all() == ["raw"] * 3
            assert called == []
            session.add(Reading(sensor="s", value=1.0))
            await session.flush()
            assert len(called) == 1
    finally:
        event.remove(Reading, "before_insert", listen)


async def test_returning_gives_the_ids(database: Database) -> None:
    options: Any = {"sort_by_parameter_order": True} if ORDERED else {}
    async with _session(database) as session:
        statement = insert(Reading).returning(Reading.id, **options)
        ids = (await session.scalars(statement, list(_rows(2_500)))).all()
        assert sorted(ids) == list(range(1, 2_501))
        if ORDERED:
            assert list(ids) == sorted(ids)


async def test_copy_knows_no_defaults_of_the_model(database: Database, witness: Witness) -> None:
    async with _session(database) as session:
        raw = await (await session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.copy_records_to_table(
            "readings",
            records=((row["sensor"], row["value"]) for row in _rows(3)),
            columns=["sensor", "value"],
        )
        assert (await session.scalars(select(Reading.state))).all() == [None] * 3
        with pytest.raises(asyncpg.NotNullViolationError) as raised:
            await driver.copy_records_to_table("strict", records=[(1,)], columns=["id"])
        witness.saw(raised.value)
