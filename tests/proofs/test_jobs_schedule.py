"""A schedule in the lifespan runs in each worker; a row for each due time makes one of them first."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.services import Database, PgBouncer, serving, serving_process
from tests.services.program import Program

REPORTS = "SELECT count(*) FROM reports"
TRY_LOCK = "SELECT pg_try_advisory_lock(7)"
# What a worker's module has before the block: its names, and one line for each transaction.
PRELUDE = """
import os
from contextlib import asynccontextmanager
from datetime import datetime
from sqlalchemy import DateTime, insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): ...

class Job(Base):
    __tablename__ = "reports"
    id: Mapped[int] = mapped_column(primary_key=True)
    hour: Mapped[datetime | None] = mapped_column(DateTime(True))

real = async_sessionmaker(create_async_engine(os.environ["DATABASE_URL"]))

class SessionFactory:
    @staticmethod
    @asynccontextmanager
    async def begin():
        async with real.begin() as session:
            yield session
        print("committed", flush=True)

async def send_report():
    async with SessionFactory.begin() as session:
        await session.execute(insert(Job))
"""


def _run(block: Block, database: Database) -> tuple[Any, Any, Any]:
    """The base with all tables, the block as a module, and its engine."""

    class Base(DeclarativeBase):
        pass

    class Job(Base):
        __tablename__ = "reports"
        id: Mapped[int] = mapped_column(primary_key=True)
        hour: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    engine = create_async_engine(database.url(), pool_size=5, max_overflow=0)
    factory = async_sessionmaker(engine)

    async def send_report() -> None:
        async with factory.begin() as session:
            session.add(Job())

    given = {"Base": Base, "SessionFactory": factory, "Job": Job, "send_report": send_report}
    return Base, block.run(**{name: given[name] for name in block.given}), engine


@asynccontextmanager
async def _prepared(block: Block, database: Database) -> AsyncIterator[Any]:
    """The block as a module, on a database with its tables."""
    base, module, engine = _run(block, database)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        async with asyncio.timeout(60):
            yield module
    finally:
        await engine.dispose()


@contextmanager
def _workers(block: Block, database: Database, folder: Path) -> Iterator[Program]:
    """The block under uvicorn with two workers."""
    (folder / "service.py").write_text(PRELUDE + block.code, "utf-8")
    command = [sys.executable, "-m", "uvicorn", "service:app", "--workers", "2", "--port", "{port}"]
    with serving_process(command, cwd=folder, env={"DATABASE_URL": database.url()}) as program:
        yield program


async def _reports_of_two_workers(block: Block, database: Database, folder: Path) -> int:
    async with _prepared(block, database):
        with _workers(block, database, folder) as program:
            async with asyncio.timeout(60):
                while program.output().count("committed") < 2:
                    await asyncio.sleep(0.02)
        return int(await database.fetchval(REPORTS))


async def test_incorrect_sends_a_report_in_each_worker(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    assert await _reports_of_two_workers(incorrect, database, tmp_path) == 2
    witness.observed(incorrect="uvicorn with 2 workers: 2 reports; 3 starts in one hour: 3 reports")


async def test_correct_adds_one_report_in_all_workers(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    assert await _reports_of_two_workers(correct, database, tmp_path) == 1
    witness.observed(correct="uvicorn with 2 workers: 1 report; 3 starts in one hour: 1 report")


@pytest.fixture
def one_hour() -> Clock:
    return Clock(datetime(2026, 3, 1, 7, 59, 30, 5, UTC))


@dataclass
class Clock:
    """What stands in the place of `datetime` in a block."""

    time: datetime

    def now(self, zone: tzinfo) -> datetime:
        assert zone is UTC
        return self.time


class Sleepless:
    """Stands for asyncio in a block: sleeps less, and tells of it."""

    def __init__(self) -> None:
        self.slept = asyncio.Event()
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.slept.set()
        await asyncio.sleep(0.01 if seconds < 60 else 60)


async def _three_starts(block: Block, database: Database, clock: Clock) -> list[Any]:
    """The hours of the reports after three starts in one hour."""
    async with _prepared(block, database) as module:
        module.datetime = clock
        for _ in range(3):
            module.asyncio = Sleepless()
            async with serving(module.app):
                await module.asyncio.slept.wait()
        return [row[0] for row in await database.fetch("SELECT hour FROM reports")]


async def test_incorrect_sends_a_report_at_each_start(
    incorrect: Block, database: Database, one_hour: Clock
) -> None:
    assert await _three_starts(incorrect, database, one_hour) == [None] * 3


async def test_correct_adds_one_report_however_often_it_starts_in_an_hour(
    correct: Block, database: Database, one_hour: Clock
) -> None:
    hours = await _three_starts(correct, database, one_hour)
    assert hours == [datetime(2026, 3, 1, 7, tzinfo=UTC)]


async def test_correct_adds_the_next_report_in_the_next_hour_and_none_again(
    correct: Block, database: Database, one_hour: Clock
) -> None:
    async with _prepared(correct, database) as module:
        module.datetime, module.asyncio = one_hour, Sleepless()
        tasks = [asyncio.create_task(module.schedule()) for _ in range(4)]
        try:
            while not await database.fetchval(REPORTS):
                await asyncio.sleep(0.01)
            await database.execute("DELETE FROM reports")  # as the worker that has sent it
            one_hour.time += timedelta(minutes=1)
            while not await database.fetchval(REPORTS):
                await asyncio.sleep(0.01)
            before = len(module.asyncio.seconds)
            while len(module.asyncio.seconds) < before + 12:
                await asyncio.sleep(0.01)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert set(module.asyncio.seconds) == {30}
    assert await database.fetch("SELECT hour FROM reports") == [
        (datetime(2026, 3, 1, 8, tzinfo=UTC),)
    ]


async def test_correct_leaves_the_hour_to_the_next_look_where_the_job_is_not_stored(
    correct: Block, database: Database, one_hour: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the process dies before the commit: neither row is there."""
    caplog.set_level(logging.ERROR)
    async with _prepared(correct, database) as module:
        module.datetime, module.asyncio = one_hour, Sleepless()
        await database.execute("ALTER TABLE reports ADD CHECK (id < 0) NOT VALID")
        async with serving(module.app):
            await module.asyncio.slept.wait()
            assert "the schedule could not look" in caplog.messages
            assert await database.fetchval("SELECT count(*) FROM runs") == 0
            await database.execute("ALTER TABLE reports DROP CONSTRAINT reports_id_check")
            while not await database.fetchval(REPORTS):
                await asyncio.sleep(0.01)
    assert await database.fetchval(REPORTS) == 1


async def test_correct_ends_its_schedule_with_the_lifespan(
    correct: Block, database: Database
) -> None:
    async with _prepared(correct, database) as module:
        before = asyncio.all_tasks()
        async with module.lifespan(module.app):
            (task,) = asyncio.all_tasks() - before
            while not await database.fetchval(REPORTS):
                await asyncio.sleep(0.01)
        assert task.cancelled()
        with pytest.raises(ZeroDivisionError):
            async with module.lifespan(module.app):
                (task,) = asyncio.all_tasks() - before
                raise ZeroDivisionError
        assert task.cancelled()


async def test_an_advisory_lock_lets_a_second_process_run_once_the_first_has_ended(
    database: Database,
) -> None:
    """The clocks of two processes differ by more than the job takes."""
    ran: list[str] = []
    for process in ("first", "second"):
        connection = await asyncpg.connect(database.dsn)
        if await connection.fetchval(TRY_LOCK):
            ran.append(process)
        await connection.close()
    assert ran == ["first", "second"]


async def test_an_advisory_lock_is_free_once_its_holder_is_dead(database: Database) -> None:
    first, second = [await asyncpg.connect(database.dsn) for _ in range(2)]
    try:
        assert await first.fetchval(TRY_LOCK)
        assert not await second.fetchval(TRY_LOCK)
        first.terminate()  # as the kernel does for a process that is killed
        async with asyncio.timeout(10):
            while not await second.fetchval(TRY_LOCK):
                await asyncio.sleep(0.01)
    finally:
        await second.close()


async def test_behind_pgbouncer_both_get_an_advisory_lock(
    database: Database, pgbouncer_current: PgBouncer
) -> None:
    url = pgbouncer_current.url(database.name, None)
    first, second = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(2)]
    try:
        assert await first.fetchval(TRY_LOCK)
        assert await second.fetchval(TRY_LOCK)
    finally:
        await first.close()
        await second.close()
