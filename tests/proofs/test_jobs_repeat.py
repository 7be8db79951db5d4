"""A worker dies at each point of its job: what runs again adds up, or is done once; and poison ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import DateTime, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

LATER = "UPDATE jobs SET due = due - interval '5 min'"
POINTS = "SELECT points FROM accounts WHERE id = $1"
MOST = 12  # attempts after which the proof gives up


class Died(BaseException):
    """Ends a worker as a signal does: nothing of it runs on, and PostgreSQL rolls back."""


@dataclass
class Death:
    """Ends a worker at the n-th point, counted from 1; points lie before and after each COMMIT."""

    at: int = 0
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Died


@dataclass
class Sessions:
    """A factory of sessions whose `begin` has a point before its COMMIT and one after it."""

    real: async_sessionmaker[AsyncSession]
    death: Death

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        async with self.real.begin() as session:
            yield session
            self.death.point()
        self.death.point()


def _run(block: Block, engine: AsyncEngine, death: Death) -> tuple[Any, Any, Sessions]:
    """The base with all tables, the block as a module, and a factory of sessions."""

    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        points: Mapped[int] = mapped_column(server_default="0")

    factory = Sessions(async_sessionmaker(engine, expire_on_commit=False), death)

    async def add_points(session: AsyncSession, account_id: int, points: int) -> None:
        account = update(Account).where(Account.id == account_id)
        await session.execute(account.values(points=Account.points + points))

    given: dict[str, Any] = {"Base": Base, "SessionFactory": factory, "add_points": add_points}
    if "Job" in block.given:

        class Job(Base):
            __tablename__ = "jobs"
            id: Mapped[int] = mapped_column(primary_key=True)
            account_id: Mapped[int]
            points: Mapped[int]
            due: Mapped[Any] = mapped_column(DateTime(True), server_default=func.now())

        given["Job"] = Job
    return Base, block.run(**{name: given[name] for name in block.given}), factory


@dataclass
class Queue:
    """A database with the block's tables, and the block."""

    database: Database
    block: Any
    sessions: Sessions
    death: Death = field(default_factory=Death)

    async def add(self, account: int, due: str = "DEFAULT") -> None:
        """A new account, and a job that adds 10 points to it."""
        await self.database.execute(
            "SET timezone TO 'Asia/Tokyo';"  # a session may have another one than the worker's
            f"INSERT INTO accounts (id) VALUES ({account});"
            f"INSERT INTO jobs (account_id, points, due) VALUES ({account}, 10, {due})"
        )

    async def run_one(self, die_at: int = 0) -> bool | None:
        """Whether there was a job; None where the worker died."""
        self.death.at, self.death.passed = die_at, 0
        try:
            return bool(await self.block.run_one())
        except Died:
            return None

    async def left(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM jobs"))


@asynccontextmanager
async def _queue(block: Block, database: Database, driver: str = "asyncpg") -> AsyncIterator[Queue]:
    engine = create_async_engine(database.url(driver), pool_size=5, max_overflow=0)
    death = Death()
    try:
        base, module, factory = _run(block, engine, death)
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        async with asyncio.timeout(90):
            yield Queue(database, module, factory, death)
    finally:
        await engine.dispose()


async def _killed_at_each_point(queue: Queue) -> list[int]:
    """The points of an account to which a job adds 10, for each point at which its worker died."""
    seen: list[int] = []
    died = True
    while died:
        account = len(seen) + 1
        await queue.add(account)
        died = await queue.run_one(die_at=account) is None
        await queue.database.execute(LATER)
        while await queue.run_one():
            pass
        seen.append(await queue.database.fetchval(POINTS, account))
        assert await queue.left() == 0
    return seen[:-1]


async def _poisoned(queue: Queue) -> tuple[int, int]:
    """How many workers a job kills that kills its worker, and the jobs that are left in the end."""
    await queue.add(100)
    deaths = 0
    while deaths < MOST and await queue.run_one(die_at=3) is None:
        deaths += 1
        await queue.database.execute(LATER)
    return deaths, await queue.left()


async def test_incorrect_adds_twice_where_the_worker_dies_after_the_effect(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _queue(incorrect, database) as queue:
        assert await _killed_at_each_point(queue) == [10, 10, 10, 20, 20, 10]
        assert await _poisoned(queue) == (MOST, 1)
    witness.observed(
        incorrect="worker dead at each of 6 points: the points were added twice in 2 of 6 cases; "
        "a job that ends its worker: still tried after 12 attempts"
    )


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_adds_once_wherever_the_worker_dies(
    correct: Block, database: Database, witness: Witness, driver: str
) -> None:
    async with _queue(correct, database, driver) as queue:
        assert await _killed_at_each_point(queue) == [10] * 4
        assert await _poisoned(queue) == (5, 1)
    witness.observed(
        correct="worker dead at each of 4 points: the points were added once in 4 of 4 cases; "
        "a job that ends its worker: kept, and not tried after 5 attempts"
    )


async def test_correct_tries_a_job_again_whose_attempts_are_set_to_0(
    correct: Block, database: Database
) -> None:
    async with _queue(correct, database) as queue:
        assert await _poisoned(queue) == (5, 1)
        assert not await queue.run_one()
        await database.execute("UPDATE jobs SET attempts = 0 WHERE attempts >= 5")
        assert await queue.run_one()
        assert await queue.left() == 0
    assert await database.fetchval(POINTS, 100) == 10


# Runs one job in a process that kills itself once the second transaction of the job has committed.
PROGRAM = """
import asyncio, os, signal, sys
from contextlib import asynccontextmanager
from datetime import datetime
from sqlalchemy import DateTime, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): ...

if sys.argv[2] == "Job":
    class Job(Base):
        __tablename__ = "jobs"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int]
        points: Mapped[int]
        due: Mapped[datetime] = mapped_column(DateTime(True))

real = async_sessionmaker(create_async_engine(sys.argv[1]))
commits = 0

class SessionFactory:
    @staticmethod
    @asynccontextmanager
    async def begin():
        global commits
        async with real.begin() as session:
            yield session
        commits += 1
        if commits == 2:
            os.kill(os.getpid(), signal.SIGKILL)

async def add_points(session, account_id, points):
    add = text("UPDATE accounts SET points = points + :points WHERE id = :id")
    await session.execute(add, {"points": points, "id": account_id})

exec(sys.stdin.read())
asyncio.run(run_one())
"""


async def _really_killed(block: Block, database: Database) -> int:
    """The points after the worker's process was killed with SIGKILL, and another went on."""
    async with _queue(block, database) as queue:
        await queue.add(1)
        models = "Job" if "Job" in block.given else "Base"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, database.url(), models), stdin=asyncio.subprocess.PIPE
        )
        try:
            await asyncio.wait_for(process.communicate(block.code.encode()), 60)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == -signal.SIGKILL
        await database.execute(LATER)
        while await queue.run_one():
            pass
        return int(await database.fetchval(POINTS, 1))


async def test_incorrect_adds_twice_where_its_process_is_killed_after_the_effect(
    incorrect: Block, database: Database
) -> None:
    assert await _really_killed(incorrect, database) == 20


async def test_correct_adds_once_where_its_process_is_killed_after_the_effect(
    correct: Block, database: Database
) -> None:
    assert await _really_killed(correct, database) == 10


async def test_correct_adds_once_where_two_workers_run_a_job_at_once(
    correct: Block, database: Database
) -> None:
    """The first one's lease ends while it waits for the account."""
    unlocked = "SELECT id FROM jobs FOR UPDATE SKIP LOCKED"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with _queue(correct, database) as queue:
        await queue.add(1)
        async with queue.sessions.real.begin() as somebody:
            await somebody.execute(text("SELECT 1 FROM accounts FOR UPDATE"))
            first = asyncio.create_task(queue.block.run_one())
            while not await database.fetchval(waiting):
                await asyncio.sleep(0.01)
            await database.execute(f"{LATER} WHERE id IN ({unlocked})")
            second = asyncio.create_task(queue.block.run_one())
            done, _ = await asyncio.wait([second], timeout=20)
            assert done
            assert second.result() is False
        assert await first
    assert await database.fetchval(POINTS, 1) == 10


async def test_correct_does_nothing_for_a_job_that_another_worker_has_ended_meanwhile(
    correct: Block, database: Database
) -> None:
    async with _queue(correct, database) as queue:
        await queue.add(1)
        late = asyncio.Event()
        held: list[bool] = []
        begin = queue.block.SessionFactory.begin

        class Slow:
            """The first worker is stopped between its two transactions."""

            def begin(self) -> Any:
                held.append(True)
                return _after(late, begin()) if len(held) == 2 else begin()

        queue.block.SessionFactory = Slow()
        first = asyncio.create_task(queue.block.run_one())
        while len(held) < 2:
            await asyncio.sleep(0.01)
        await database.execute(LATER)
        assert await queue.block.run_one()
        assert await database.fetchval(POINTS, 1) == 10
        late.set()
        assert await first
        assert await database.fetchval(POINTS, 1) == 10


@asynccontextmanager
async def _after(event_: asyncio.Event, opened: Any) -> AsyncIterator[Any]:
    await event_.wait()
    async with opened as session:
        yield session


async def test_correct_passes_a_job_that_another_worker_is_taking(
    correct: Block, database: Database
) -> None:
    async with _queue(correct, database) as queue:
        await queue.add(1, "now() - interval '1 s'")
        await queue.add(2)
        async with queue.sessions.real.begin() as other:
            await other.execute(text("SELECT 1 FROM jobs WHERE account_id = 1 FOR UPDATE"))
            async with asyncio.timeout(30):
                assert [await queue.block.run_one(), await queue.block.run_one()] == [True, False]
    assert await database.fetch("SELECT account_id, attempts FROM jobs") == [(1, 0)]


async def test_correct_takes_what_is_due_for_longest_and_tries_it_again_after_five_minutes(
    correct: Block, database: Database
) -> None:
    due = "SELECT extract(epoch FROM due - now()) FROM jobs WHERE account_id = 2"
    async with _queue(correct, database) as queue:
        await queue.add(1, "now() - interval '1 s'")
        await queue.add(2, "now() - interval '1 min'")
        await queue.add(3, "now() + interval '1 min'")
        assert await queue.run_one(die_at=3) is None
        assert 240 < await database.fetchval(due) <= 300
        assert await database.fetchval("SELECT attempts FROM jobs WHERE account_id = 2") == 1
        assert [await queue.block.run_one(), await queue.block.run_one()] == [True, False]
        assert await database.fetchval(POINTS, 1) == 10
        assert await queue.left() == 2
    indexes = await database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'jobs'")
    assert any("(due)" in each[0] for each in indexes)


async def test_a_job_of_a_broker_runs_once_where_its_id_is_stored_with_its_effect(
    database: Database,
) -> None:
    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        points: Mapped[int] = mapped_column(server_default="0")

    class Done(Base):
        __tablename__ = "done"
        job_id: Mapped[str] = mapped_column(primary_key=True)

    async with engine_with(Base, database.url(), pool_size=5) as engine:
        factory = async_sessionmaker(engine)

        async def credit(job_id: str, account_id: int, points: int) -> None:
            new = insert(Done).values(job_id=job_id).on_conflict_do_nothing()
            async with factory.begin() as session:
                if await session.scalar(new.returning(Done.job_id)):
                    add = update(Account).where(Account.id == account_id)
                    await session.execute(add.values(points=Account.points + points))

        await database.execute("INSERT INTO accounts (id) VALUES (1)")
        await asyncio.gather(*(credit("job-1", 1, 10) for _ in range(5)))
        await credit("job-1", 1, 10)
    assert await database.fetchval(POINTS, 1) == 10
