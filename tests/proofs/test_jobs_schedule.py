"""A schedule in the lifespan runs in each worker; a row with its next run gives it to one of them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from tests.proofs.harness import Block, Witness
from tests.services import Database, PgBouncer, serving, serving_process
from tests.services.program import Program

TRY_LOCK = "SELECT pg_try_advisory_lock(7)"
START = datetime(2026, 3, 1, 7, 10, 30, 5, UTC)
SEVEN, EIGHT, NINE = (datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (7, 8, 9))
# A clock for one database: its `now()` comes before that of PostgreSQL, and runs beside it.
CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shift (by interval NOT NULL);
INSERT INTO clock.shift VALUES ('{start}'::timestamptz - pg_catalog.now());
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + by FROM clock.shift';
ALTER DATABASE "{name}" SET search_path TO clock, public, pg_catalog;
"""
# What a worker's module has before the block. It says when a transaction of a process has ended.
PRELUDE = """
import asyncio, os
from contextlib import asynccontextmanager
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase): ...

real = async_sessionmaker(create_async_engine(os.environ["DATABASE_URL"]))

class SessionFactory:
    @staticmethod
    @asynccontextmanager
    async def begin():
        async with real.begin() as session:
            yield session
        print("looked", os.getpid(), flush=True)

async def send_report(hour=None):
    async with SessionFactory.begin() as session:
        await session.execute(text("INSERT INTO reports VALUES (:hour)"), {"hour": hour})
    print("sent", os.getpid(), flush=True)
    await asyncio.sleep(float(os.environ["SECONDS"]))

"""


@dataclass
class Desk:
    """A block, and the reports that it sends once `sending` is set."""

    database: Database
    engine: AsyncEngine
    module: Any = None
    sending: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False
    begun: list[datetime | None] = field(default_factory=list)
    sent: list[datetime | None] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    async def send_report(self, hour: datetime | None = None) -> None:
        self.begun.append(hour)
        self.held.append(self.engine.pool.checkedout())  # type: ignore[attr-defined]
        await self.sending.wait()
        if self.broken:
            raise ConnectionError("no mail")
        self.sent.append(hour)

    async def passes(self, **time: float) -> None:
        """Put the clock of the database on."""
        await self.database.execute("UPDATE clock.shift SET by = by + $1", timedelta(**time))

    async def row(self) -> tuple[datetime, timedelta]:
        """Which run is next, and in what time it is due."""
        ((planned, left),) = await self.database.fetch("SELECT planned, due - now() FROM schedules")
        return planned, left


@asynccontextmanager
async def _desk(
    block: Block,
    database: Database,
    *,
    start: datetime = START,
    url: str | None = None,
    **options: Any,
) -> AsyncIterator[Desk]:
    """The block on a database with its tables, whose clock begins at `start`."""

    class Base(DeclarativeBase):
        pass

    await database.execute(CLOCK.format(start=start.isoformat(), name=database.name))
    engine = create_async_engine(
        url or database.url(), pool_size=5, max_overflow=0, connect_args=options
    )
    desk = Desk(database, engine)
    desk.sending.set()
    given = {
        "Base": Base,
        "SessionFactory": async_sessionmaker(engine),
        "send_report": desk.send_report,
    }
    try:
        desk.module = block.run(**{name: given[name] for name in block.given})
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with asyncio.timeout(60):
            yield desk
    finally:
        await engine.dispose()


@asynccontextmanager
async def _running(awaitable: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A task that is ended with the body, if it has not ended."""
    task = asyncio.create_task(awaitable)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _until(true: Any) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


@contextmanager
def _workers(block: Block, database: Database, folder: Path, seconds: float) -> Iterator[Program]:
    """The block under uvicorn with two workers; to send a report takes so many seconds."""
    (folder / "service.py").write_text(PRELUDE + block.code, "utf-8")
    command = [sys.executable, "-m", "uvicorn", "service:app", "--workers", "2", "--port", "{port}"]
    env = {"DATABASE_URL": database.url(), "SECONDS": str(seconds)}
    with serving_process(command, cwd=folder, env=env) as program:
        yield program


async def _reports_of_two_workers(block: Block, database: Database, folder: Path) -> int:
    async with _desk(block, database):
        await database.execute("CREATE TABLE reports (hour timestamptz)")
        with _workers(block, database, folder, 0) as program:
            await _until(lambda: len(set(re.findall(r"looked (\d+)", program.output()))) == 2)
            await _until(lambda: "sent" in program.output())
            await asyncio.sleep(0.3)  # what a second worker would need
        return int(await database.fetchval("SELECT count(*) FROM reports"))


async def test_incorrect_sends_a_report_in_each_worker(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    assert await _reports_of_two_workers(incorrect, database, tmp_path) == 2
    witness.observed(
        incorrect="uvicorn with 2 workers: 2 reports in one hour; 3 starts in one hour: 3 reports; "
        "after an error: no further report"
    )


async def test_correct_sends_one_report_in_all_workers(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    assert await _reports_of_two_workers(correct, database, tmp_path) == 1
    witness.observed(
        correct="uvicorn with 2 workers: 1 report in one hour; 3 starts in one hour: 1 report; "
        "after an error: the same report 5 minutes later"
    )


async def test_correct_gives_the_run_of_a_killed_worker_to_another_after_the_lease(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    async with _desk(correct, database) as desk:
        await database.execute("CREATE TABLE reports (hour timestamptz)")
        with _workers(correct, database, tmp_path, 60) as program:
            await _until(lambda: "sent" in program.output())
            (pid,) = re.findall(r"sent (\d+)", program.output())
            os.kill(int(pid), signal.SIGKILL)
        await desk.passes(minutes=4)
        await desk.module.run_due()
        assert desk.sent == []
        await desk.passes(minutes=1)
        await desk.module.run_due()
    assert await database.fetch("SELECT hour FROM reports") == [(SEVEN,)]
    assert desk.sent == [SEVEN]


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

    async def wait(self, tasks: Any, timeout: float) -> Any:
        return await asyncio.wait(tasks, timeout=timeout / 100)


async def _three_starts(block: Block, database: Database) -> int:
    """How many reports three starts in one hour send."""
    async with _desk(block, database) as desk:
        for _ in range(3):
            desk.module.asyncio = Sleepless()
            async with serving(desk.module.app):
                await desk.module.asyncio.slept.wait()
    return len(desk.sent)


async def test_incorrect_sends_a_report_at_each_start(incorrect: Block, database: Database) -> None:
    assert await _three_starts(incorrect, database) == 3


async def test_correct_sends_one_report_however_often_it_starts_in_an_hour(
    correct: Block, database: Database
) -> None:
    assert await _three_starts(correct, database) == 1


async def test_incorrect_sends_nothing_more_after_an_error(
    incorrect: Block, database: Database
) -> None:
    async with _desk(incorrect, database) as desk:
        desk.broken = True
        desk.module.asyncio = Sleepless()
        async with serving(desk.module.app):
            await _until(lambda: desk.begun)
            await asyncio.sleep(0.1)
    assert (len(desk.begun), desk.module.asyncio.seconds) == (1, [])


async def test_correct_logs_an_error_and_sends_the_same_report_after_the_lease(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with _desk(correct, database) as desk:
        desk.broken = True
        desk.module.asyncio = sleepless = Sleepless()
        async with serving(desk.module.app):
            await _until(lambda: len(sleepless.seconds) > 5)
            assert desk.begun == [SEVEN]
            assert caplog.messages.count("a scheduled run failed") == 1
            assert "no mail" in caplog.text
            desk.broken = False
            await desk.passes(minutes=5)
            await _until(lambda: desk.sent)
    assert desk.sent == [SEVEN]
    assert set(sleepless.seconds) == {30}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_runs_each_hour_once_in_the_first_of_many(
    correct: Block, database: Database, driver: str
) -> None:
    async with _desk(correct, database, url=database.url(driver)) as desk:
        for _ in range(3):
            await asyncio.gather(*(desk.module.run_due() for _ in range(8)))
            await desk.passes(minutes=49)  # 7:59, 8:48, 9:37
            await asyncio.gather(*(desk.module.run_due() for _ in range(8)))
    assert desk.sent == [SEVEN, EIGHT, NINE]


async def test_correct_holds_no_connection_while_it_sends(
    correct: Block, database: Database
) -> None:
    async with _desk(correct, database) as desk:
        await desk.module.run_due()
    assert desk.held == [0]


async def test_correct_begins_no_run_while_the_last_one_takes_longer_than_an_hour(
    correct: Block, database: Database
) -> None:
    async with _desk(correct, database) as desk:
        desk.module.LEASE = timedelta(hours=3)
        desk.sending.clear()
        async with _running(desk.module.run_due()) as long:
            await _until(lambda: desk.begun)
            await desk.passes(hours=1)
            await desk.module.run_due()
            assert desk.begun == [SEVEN]
            desk.sending.set()
            await long
        await desk.module.run_due()  # what has become due meanwhile
        await desk.module.run_due()
    assert desk.sent == [SEVEN, EIGHT]


async def test_correct_runs_once_for_all_hours_that_were_missed(
    correct: Block, database: Database
) -> None:
    async with _desk(correct, database) as desk:
        await desk.module.run_due()
        await desk.passes(hours=5)  # 12:10
        await desk.module.run_due()
        await desk.module.run_due()
        assert desk.sent == [SEVEN, EIGHT]
        planned, left = await desk.row()
        assert planned == datetime(2026, 3, 1, 13, tzinfo=UTC)
        assert timedelta(minutes=45) < left < timedelta(minutes=50)


async def test_with_following_after_planned_each_missed_hour_has_its_run(
    correct: Block, database: Database
) -> None:
    code = correct.code.replace(
        "planned=following, due=following",
        "planned=planned + timedelta(hours=1), due=planned + timedelta(hours=1)",
    )
    assert code != correct.code
    async with _desk(dataclasses.replace(correct, code=code), database) as desk:
        await desk.module.run_due()
        await desk.passes(hours=2)
        for _ in range(4):
            await desk.module.run_due()
    assert desk.sent == [SEVEN, EIGHT, NINE]


async def test_correct_ends_its_schedule_with_the_lifespan_and_sends_what_it_left(
    correct: Block, database: Database
) -> None:
    async with _desk(correct, database) as desk:
        desk.sending.clear()
        before = asyncio.all_tasks()
        async with desk.module.lifespan(desk.module.app):
            (task,) = asyncio.all_tasks() - before
            await _until(lambda: desk.begun)
        assert task.cancelled()
        desk.sending.set()
        await desk.module.run_due()
        assert desk.sent == []
        await desk.passes(minutes=5)
        with pytest.raises(ZeroDivisionError):
            async with desk.module.lifespan(desk.module.app):
                (task,) = asyncio.all_tasks() - before
                await _until(lambda: desk.sent)
                raise ZeroDivisionError
        assert task.cancelled()
    assert desk.sent == [SEVEN]


async def test_correct_gives_a_run_up_before_the_lease_ends(
    correct: Block, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return real(seconds / 600)

    async with _desk(correct, database) as desk:
        desk.sending.clear()
        monkeypatch.setattr(asyncio, "timeout", timeout)
        with pytest.raises(TimeoutError):
            await desk.module.run_due()
        assert 0 < given[-1] < desk.module.LEASE.total_seconds()
        planned, left = await desk.row()
        assert planned == SEVEN
        assert timedelta(minutes=4) < left <= timedelta(minutes=5)


async def test_correct_lets_a_run_that_has_lost_its_lease_change_no_later_run(
    correct: Block, database: Database
) -> None:
    async with _desk(correct, database) as desk:
        desk.sending.clear()
        async with _running(desk.module.run_due()) as late:  # its process stood still
            await _until(lambda: desk.begun == [SEVEN])
            await desk.passes(minutes=5)
            gate, desk.sending = desk.sending, asyncio.Event()
            desk.sending.set()
            await desk.module.run_due()
            await desk.passes(hours=1)
            desk.sending = asyncio.Event()
            async with _running(desk.module.run_due()):
                await _until(lambda: desk.begun == [SEVEN, SEVEN, EIGHT])
                before = await database.fetch("SELECT planned, due FROM schedules")
                gate.set()
                await late
                assert await database.fetch("SELECT planned, due FROM schedules") == before
    assert desk.sent == [SEVEN, SEVEN]


async def test_correct_ends_its_lifespan_with_a_report_that_cannot_be_cancelled(
    correct: Block, database: Database
) -> None:
    """As a driver whose error takes the place of the cancellation."""
    async with _desk(correct, database) as desk:

        async def stubborn(_: datetime) -> None:
            while not desk.sent:
                with suppress(asyncio.CancelledError):
                    desk.begun.append(SEVEN)
                    await asyncio.sleep(10)

        desk.module.send_report, desk.module.asyncio = stubborn, Sleepless()
        before = asyncio.all_tasks()
        async with desk.module.lifespan(desk.module.app):
            (task,) = asyncio.all_tasks() - before
            await _until(lambda: desk.begun)
        assert not task.done()
        desk.sent.append(SEVEN)
        for _ in range(2):  # out of the report, and out of the schedule
            task.cancel()
            await asyncio.wait([task], timeout=0.5)
        assert task.done()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
async def test_correct_counts_the_hours_of_utc_whatever_the_zone_of_the_database(
    correct: Block, database: Database, zone: str
) -> None:
    await database.execute(f"ALTER DATABASE \"{database.name}\" SET timezone TO '{zone}'")
    async with _desk(correct, database) as desk:
        await desk.module.run_due()
        await desk.passes(minutes=50)
        await desk.module.run_due()
    assert desk.sent == [SEVEN, EIGHT]


async def test_correct_leaves_other_schedules_alone(correct: Block, database: Database) -> None:
    async with _desk(correct, database) as desk:
        other = "INSERT INTO schedules SELECT 'other', planned, due FROM schedules"
        await desk.module.run_due()
        await database.execute(other)
        await desk.passes(hours=1)
        await desk.module.run_due()
        rows = await database.fetch("SELECT name, planned FROM schedules ORDER BY name")
    assert rows == [("other", EIGHT), ("report", NINE)]


DAY = 'func.date_trunc("day", func.timezone("Europe/Berlin", func.now()) - timedelta(hours=7))'


@pytest.mark.parametrize(
    ("start", "days"),
    [
        ("2026-03-28T09:00Z", ["2026-03-28T07:00:00+01:00", "2026-03-29T07:00:00+02:00"]),
        ("2026-10-25T05:00Z", ["2026-10-24T07:00:00+02:00", "2026-10-25T07:00:00+01:00"]),
    ],
)
async def test_a_daily_run_keeps_its_hour_where_the_clocks_change(
    correct: Block, database: Database, start: str, days: list[str]
) -> None:
    """With what the rule gives for seven o'clock in a zone."""
    this, following = 'func.date_trunc("hour", func.now(), "UTC")', "THIS_HOUR + timedelta(hours=1)"
    seven = f'func.timezone("Europe/Berlin", {DAY} + timedelta({{}}hours=7))'
    assert this in correct.code
    assert following in correct.code
    code = correct.code.replace(following, seven.format("days=1, "))
    block = dataclasses.replace(correct, code=code.replace(this, seven.format("")))
    async with _desk(block, database, start=datetime.fromisoformat(start)) as desk:
        await desk.module.run_due()
        planned, _ = await desk.row()
        seen = [
            each and each.astimezone(ZoneInfo("Europe/Berlin")) for each in (*desk.sent, planned)
        ]
    assert [each and each.isoformat() for each in seen] == days


@pytest.mark.parametrize("release", ["old", "current"])
async def test_correct_works_behind_pgbouncer(
    correct: Block, database: Database, release: str, request: pytest.FixtureRequest
) -> None:
    name = "pgbouncer" if release == "old" else "pgbouncer_current"
    bouncer: PgBouncer = request.getfixturevalue(name)
    url = bouncer.url(database.name, "psycopg")
    async with _desk(correct, database, url=url, prepare_threshold=None) as desk:
        await asyncio.gather(*(desk.module.run_due() for _ in range(8)))
        await desk.passes(minutes=50)
        await asyncio.gather(*(desk.module.run_due() for _ in range(8)))
    assert desk.sent == [SEVEN, EIGHT]


async def test_an_advisory_lock_lets_a_second_process_run_once_the_first_has_ended(
    database: Database,
) -> None:
    """As where the second one's timer fires after the first one's run."""
    ran: list[str] = []
    for process in ("first", "second"):
        connection = await asyncpg.connect(database.dsn)
        if await connection.fetchval(TRY_LOCK):
            ran.append(process)
        await connection.close()
    assert ran == ["first", "second"]


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
