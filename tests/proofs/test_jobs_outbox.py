"""A job in memory dies with its process or its first error; a row in the change's transaction stays."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as BrokerDown
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import ROOT, Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, Redis, serving

pytestmark = pytest.mark.filterwarnings("error")
ORDERS = range(1, 4)
LEFT = "SELECT count(*) FROM jobs"


@dataclass
class Mail:
    """Sends receipts once `answering` is set; `refused` are the orders for which it raises."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    refused: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    pool: Any = None

    async def send(self, number: int) -> None:
        self.asked.append(number)
        self.held.append(self.pool.checkedout())
        await self.answering.wait()
        if number in self.refused:
            raise ConnectionError(f"no mail for {number}")
        self.sent.append(number)


@dataclass
class Shop:
    """A block on an engine, and the mail that it sends."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    mail: Mail
    block: Any

    @asynccontextmanager
    async def workers(self, count: int = 1) -> AsyncIterator[None]:
        """Run the block's worker, where it has one; what each ends with besides that is raised."""
        tasks = [
            asyncio.create_task(self.block.work())
            for _ in range(count if hasattr(self.block, "work") else 0)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            _, left = await asyncio.wait(tasks, timeout=5) if tasks else ((), ())
            for task in left:  # which is a fault of the block, and must not hold the proof
                while not task.done():
                    task.cancel()
                    await asyncio.wait([task], timeout=0.1)
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            assert not left, "a worker goes on after it was cancelled"


@asynccontextmanager
async def _shop(
    block: Block, database: Database, driver: str = "asyncpg", lease: float | None = None
) -> AsyncIterator[Shop]:
    """The block with a pool of 5; `lease`, in seconds, takes the place of its own."""

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with factory.begin() as session:
            yield session

    url = database.url(driver)
    async with engine_with(Base, url, pool_size=5, max_overflow=0) as engine:
        factory = async_sessionmaker(engine, expire_on_commit=False)
        mail = Mail(pool=engine.pool)
        given = {
            "Base": Base,
            "Session": Annotated[AsyncSession, Depends(get_session, scope="function")],
            "SessionFactory": factory,
            "Order": Order,
            "send_receipt": mail.send,
        }
        module = block.run(**{name: given[name] for name in block.given})
        if lease is not None:
            module.LEASE = timedelta(seconds=lease)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with asyncio.timeout(90):
            yield Shop(engine, factory, mail, module)


async def _until(true: Any) -> None:
    """Wait until this, or what awaiting it gives, is true."""
    async with asyncio.timeout(30):
        while not (await value if inspect.isawaitable(value := true()) else value):
            await asyncio.sleep(0.01)


async def _none_left(database: Database) -> bool:
    return not await database.fetchval(LEFT)


async def _post(url: str, *numbers: int) -> list[int]:
    """The statuses of the orders, posted one after the other."""
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, limits=fresh) as client:
        return [(await client.post(f"/orders/{number}")).status_code for number in numbers]


async def _restart(block: Block, database: Database) -> tuple[list[int], list[int]]:
    """What was answered and sent of 3 orders before a restart and one after it.

    The mail server hangs until the restart.
    """
    async with _shop(block, database, lease=0.3) as shop:
        async with (
            serving(shop.block.app, timeout_graceful_shutdown=0.1) as served,
            shop.workers(),
        ):
            statuses = await _post(served.url, *ORDERS)
            await _until(lambda: shop.mail.asked)
        assert shop.mail.sent == []
        shop.mail.answering.set()
        async with serving(shop.block.app) as served, shop.workers():
            statuses += await _post(served.url, 9)
            await _until(lambda: 9 in shop.mail.sent)
            if hasattr(shop.block, "work"):
                await _until(lambda: _none_left(database))
    assert await database.fetchval("SELECT count(*) FROM orders") == 4
    return statuses, sorted(shop.mail.sent)


async def test_incorrect_loses_what_waits_when_the_server_stops(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert await _restart(incorrect, database) == ([200] * 4, [9])
    assert "Waiting for background tasks to complete" in caplog.text
    assert "Cancel 3 running task(s), timeout graceful shutdown exceeded" in caplog.text
    witness.observed(
        incorrect="stopped while 3 receipts wait: 3 of 3 orders stored and answered 200, 0 of 3 "
        "receipts sent after the restart; a receipt that fails is not tried again"
    )


async def test_correct_sends_all_of_them_after_the_restart(
    correct: Block, database: Database, witness: Witness
) -> None:
    assert await _restart(correct, database) == ([200] * 4, [*ORDERS, 9])
    assert await database.fetchval(LEFT) == 0
    witness.observed(
        correct="stopped while 3 receipts wait: 3 of 3 receipts sent after the restart; "
        "a receipt that fails is tried again"
    )


async def _refusal(block: Block, database: Database) -> tuple[list[int], list[int]]:
    """What was asked and sent where the mail server refuses order 2 the first time."""
    async with _shop(block, database, lease=0.3) as shop:
        shop.mail.answering.set()
        shop.mail.refused = {2}
        async with serving(shop.block.app) as served, shop.workers():
            await _post(served.url, *ORDERS)
            await _until(lambda: {1, 3} <= set(shop.mail.sent))
            shop.mail.refused = set()
            if hasattr(shop.block, "work"):
                await _until(lambda: 2 in shop.mail.sent)
    return sorted(set(shop.mail.asked)), sorted(shop.mail.sent)


async def test_incorrect_tries_a_receipt_that_fails_no_second_time(
    incorrect: Block, database: Database
) -> None:
    assert await _refusal(incorrect, database) == ([1, 2, 3], [1, 3])


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_logs_it_sends_the_others_and_tries_it_again(
    correct: Block, database: Database, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with _shop(correct, database, driver, lease=0.3) as shop:
        shop.mail.answering.set()
        shop.mail.refused = {2}
        async with serving(shop.block.app) as served, shop.workers():
            await _post(served.url, *ORDERS)
            await _until(lambda: {1, 3} <= set(shop.mail.sent))
            shop.mail.refused = set()
            await _until(lambda: 2 in shop.mail.sent)
    assert shop.mail.sent == [*(n for n in shop.mail.sent if n != 2), 2]
    assert sorted(shop.mail.sent) == [1, 2, 3]
    failed = [each for each in caplog.records if each.getMessage() == "a job failed"]
    assert failed
    assert "no mail for 2" in str(failed[0].exc_text or failed[0].exc_info)


async def test_correct_pauses_after_a_failure_and_where_nothing_is_due(
    correct: Block, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    pauses: list[tuple[float, int]] = []
    async with _shop(correct, database) as shop:
        shop.mail.answering.set()
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds >= 0.5:
                pauses.append((seconds, len(shop.mail.sent)))
            await real(0.001)

        await database.execute("INSERT INTO jobs (order_number) SELECT generate_series(1, 9)")
        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with shop.workers():
            await _until(lambda: pauses)
        assert pauses[0] == (1, 9)
        shop.mail.refused = {10}
        await database.execute("INSERT INTO jobs (order_number) VALUES (10), (11)")
        pauses.clear()
        async with shop.workers():
            await _until(lambda: 11 in shop.mail.sent)
    assert pauses[0] == (1, 9)


async def test_correct_stores_no_job_for_an_order_that_is_refused(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop, serving(shop.block.app) as served:
        assert await _post(served.url, 1, 1) == [200, 500]
        assert await database.fetchval(LEFT) == 1


async def test_correct_gives_each_job_to_one_of_several_workers_and_holds_no_connection(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        await database.execute("INSERT INTO jobs (order_number) SELECT generate_series(1, 20)")
        async with shop.workers(4):
            await _until(lambda: len(shop.mail.asked) == 4)
            assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            shop.mail.answering.set()
            await _until(lambda: _none_left(database))
    assert sorted(shop.mail.sent) == list(range(1, 21))


async def test_correct_passes_a_job_that_another_worker_is_taking(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        shop.mail.answering.set()
        # A session of PostgreSQL may have another time zone than the worker's.
        insert = "INSERT INTO jobs (order_number) VALUES (1), (2)"
        await database.execute(f"SET timezone TO 'Asia/Tokyo'; {insert}")
        async with shop.sessions.begin() as other:
            await other.execute(text("SELECT 1 FROM jobs WHERE order_number = 1 FOR UPDATE"))
            assert await shop.block.run_one() is True
            assert await shop.block.run_one() is False
        assert shop.mail.sent == [2]
        indexes = await database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'jobs'")
        assert any("(due)" in each[0] for each in indexes)


async def test_correct_takes_the_job_that_is_due_for_longest_and_none_before_its_time(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        shop.mail.answering.set()
        await database.execute(
            "INSERT INTO jobs (order_number, due) VALUES (1, now() - interval '1 s'),"
            " (2, now() - interval '1 min'), (3, now() + interval '1 min')"
        )
        while await shop.block.run_one():
            pass
        assert shop.mail.sent == [2, 1]
        assert await database.fetchval("SELECT order_number FROM jobs") == 3


async def test_correct_keeps_a_job_that_somebody_has_taken_for_the_lease(
    correct: Block, database: Database
) -> None:
    left = "SELECT extract(epoch FROM due - now()) FROM jobs"
    async with _shop(correct, database) as shop:
        await database.execute("INSERT INTO jobs (order_number) VALUES (1)")
        task = asyncio.create_task(shop.block.run_one())
        await _until(lambda: shop.mail.asked)
        assert 240 < await database.fetchval(left) <= 300
        assert not await shop.block.run_one()
        shop.mail.answering.set()
        assert await task
    assert await database.fetchval(LEFT) == 0


async def test_correct_gives_a_receipt_up_long_before_its_lease_ends(
    correct: Block, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    real = asyncio.timeout
    async with _shop(correct, database) as shop:
        lease = shop.block.LEASE.total_seconds()
        await database.execute("INSERT INTO jobs (order_number) VALUES (1)")

        def timeout(seconds: float) -> asyncio.Timeout:
            given.append(seconds)
            return real(seconds / 300)

        monkeypatch.setattr(asyncio, "timeout", timeout)
        with pytest.raises(TimeoutError):
            await shop.block.run_one()
    assert shop.mail.asked == [1]
    assert given[-1] <= lease / 2
    assert await database.fetchval(LEFT) == 1


async def test_correct_ends_when_it_is_cancelled_in_the_middle_of_a_job(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with _shop(correct, database) as shop:
        await database.execute("INSERT INTO jobs (order_number) VALUES (1)")
        worker = asyncio.create_task(shop.block.work())
        await _until(lambda: shop.mail.asked)
        worker.cancel()
        await asyncio.wait({worker}, timeout=2)
        ended = worker.done()
        while not worker.done():
            worker.cancel()
            await asyncio.wait({worker}, timeout=0.1)
        assert ended
        assert worker.cancelled()
        assert "a job failed" not in caplog.messages


async def test_correct_ends_although_the_rollback_of_the_cancelled_job_fails(
    correct: Block, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As psycopg 3.1 does, and each driver whose server goes at the same moment."""
    reached = asyncio.Event()

    class Factory:
        @asynccontextmanager
        async def begin(self) -> AsyncIterator[None]:
            reached.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise OperationalError("ROLLBACK", None, Exception("gone")) from None
            yield

    async with _shop(correct, database) as shop:
        shop.block.SessionFactory = Factory()
        async with shop.workers():
            await reached.wait()


async def test_correct_starts_a_job_that_outlives_its_lease_a_second_time(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database, lease=0) as shop:
        await database.execute("INSERT INTO jobs (order_number) VALUES (1)")
        tasks = []
        for count in (1, 2):  # one after the other: a row that is being taken is skipped
            tasks.append(asyncio.create_task(shop.block.run_one()))
            await _until(lambda count=count: len(shop.mail.asked) == count)
        shop.mail.answering.set()
        await asyncio.gather(*tasks)
        assert shop.mail.sent == [1, 1]


async def test_correct_tries_a_job_that_fails_each_time_again_and_again(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database, lease=0) as shop:
        shop.mail.answering.set()
        shop.mail.refused = {1}
        await database.execute("INSERT INTO jobs (order_number) VALUES (1)")
        for _ in range(5):
            with pytest.raises(ConnectionError):
                await shop.block.run_one()
    assert await database.fetchval(LEFT) == 1


PROGRAM = """
import asyncio, sys
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase): ...

engine = create_async_engine(sys.argv[1])
SessionFactory = async_sessionmaker(engine, expire_on_commit=False)
Session = AsyncSession

async def send_receipt(number):
    print("sent", number, flush=True)
    await asyncio.sleep(60)

names = {"__name__": "worker", **{name: globals()[name] for name in
    ("Base", "SessionFactory", "send_receipt")}, "Session": None, "Order": None}
exec(compile(open(sys.argv[2]).read(), "block", "exec"), names)
asyncio.run(names["run_one"]())
"""


async def test_correct_sends_twice_where_the_worker_is_killed_before_it_can_say_that_it_has_sent(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    async with _shop(correct, database) as shop:
        await database.execute("INSERT INTO jobs (order_number) VALUES (7)")
        path = tmp_path / "block.py"
        path.write_text(correct.code.replace("session: Session", "session"), "utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            textwrap.dedent(PROGRAM),
            database.url(),
            path,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        try:
            assert process.stdout
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"sent 7\n"
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
        shop.mail.answering.set()
        assert not await shop.block.run_one()
        await database.execute("UPDATE jobs SET due = due - interval '5 min'")
        assert await shop.block.run_one()
    assert shop.mail.sent == [7]
    assert await database.fetchval(LEFT) == 0


async def test_a_broker_that_is_told_before_the_commit_has_jobs_for_orders_that_do_not_exist(
    database: Database, redis_server: Redis
) -> None:
    """One worker is too early, and one order is never stored."""
    app, go_on = FastAPI(), asyncio.Event()

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    async with (
        engine_with(Base, database.url()) as engine,
        Client.from_url(redis_server.url) as redis,
    ):
        queue = f"jobs of {database.name}"

        async def get_session() -> AsyncIterator[AsyncSession]:
            async with AsyncSession(engine) as session, session.begin():
                yield session

        @app.post("/orders/{number}")
        async def create_order(
            number: int, session: AsyncSession = Depends(get_session, scope="function")
        ) -> None:
            session.add(Order(number=number))
            await redis.rpush(queue, number)
            await go_on.wait()

        async with serving(app) as served:
            posting = asyncio.create_task(_post(served.url, 1, 1))
            assert await redis.blpop([queue], 10) == (queue.encode(), b"1")
            assert await database.fetchval("SELECT count(*) FROM orders") == 0
            go_on.set()
            assert await posting == [200, 500]
        assert await database.fetchval("SELECT count(*) FROM orders") == 1
        assert await redis.llen(queue) == 1


async def test_a_broker_that_is_down_after_the_commit_loses_the_job_of_an_order_that_is_stored(
    database: Database,
) -> None:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    with Redis() as server:
        url = server.url
    async with engine_with(Base, database.url()) as engine, Client.from_url(url) as redis:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Order(number=1))
        with pytest.raises(BrokerDown):
            await asyncio.wait_for(redis.rpush("jobs", 1), 10)
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
