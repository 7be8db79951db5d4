"""A pooled connection outlives the loop of its Celery task; without a pool none does."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery  # type: ignore[import-untyped]
from celery.result import AsyncResult  # type: ignore[import-untyped]
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from tests.proofs.harness import Block, Witness
from tests.services import Database, Redis
from tests.services.process import GuardedFolder, spawn

TASKS = 4
ORDERS = "CREATE TABLE orders (number integer PRIMARY KEY); INSERT INTO orders VALUES (1), (2)"
# What a worker's module has before the block.
PRELUDE = """
import os
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): ...

class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)

broker_url, database_url = "filesystem://", os.environ["DATABASE_URL"]
"""
# What it has after the block: a broker and a store of results in a folder.
CONFIGURED = """
app.conf.update({!r})
"""
# A second task, with a Redis client that several loops use.
CACHE = """
from redis.asyncio import Redis
cache = Redis.from_url(os.environ["REDIS_URL"])

@app.task
def count_orders() -> int:
    return asyncio.run(cache.dbsize())
"""
# Another, whose engine may keep its connections: the process has one loop, in a thread.
ONE_LOOP = """
import threading
from celery.signals import worker_process_init
from sqlalchemy import text
engine = create_async_engine(database_url, pool_size=2, max_overflow=0)
loop = asyncio.new_event_loop()

@worker_process_init.connect
def start(**_):
    threading.Thread(target=loop.run_forever, daemon=True).start()

async def backend():
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

@app.task
def count_orders() -> int:
    return asyncio.run_coroutine_threadsafe(backend(), loop).result(20)
"""


def _configuration(folder: Path) -> dict[str, Any]:
    """Where a worker in this folder finds its tasks, and leaves its results."""
    for name in ("sent", "tasks", "results", "control"):
        (folder / name).mkdir()
    places = {"data_folder_in": "tasks", "data_folder_out": "tasks", "control_folder": "control"}
    options: dict[str, Any] = {name: str(folder / place) for name, place in places.items()}
    options["polling_interval"] = 0.05
    return {"broker_transport_options": options, "result_backend": f"file://{folder / 'results'}"}


@contextmanager
def _worker(code: str, folder: Path, pool: str, urls: dict[str, str]) -> Iterator[None]:
    """A Celery worker with one process or one thread for its tasks."""
    (folder / "shop.py").write_text(code, "utf-8")
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", pool, "-c", "1"]
    less = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    guarded = GuardedFolder()
    try:
        process = spawn([*command, *less], guarded, env={**os.environ, **urls}, cwd=folder)
        try:
            yield
        finally:
            process.kill()
            process.wait()
    finally:
        guarded.close()  # ends the processes of the tasks, too


async def _four_tasks(
    code: str, folder: Path, database: Database, pool: str = "prefork", **urls: str
) -> list[AsyncResult]:
    """What Celery stored of four tasks, each sent once the one before has ended."""
    await database.execute(ORDERS)
    configuration = _configuration(folder)
    whole = PRELUDE + code + CONFIGURED.format(configuration)
    ended: list[AsyncResult] = []
    with (
        Celery(broker="filesystem://") as app,
        _worker(whole, folder, pool, {"DATABASE_URL": database.url(), **urls}),
    ):
        app.conf.update(configuration)
        app.conf.broker_transport_options["data_folder_out"] = str(folder / "sent")
        async with asyncio.timeout(60):
            for _ in range(TASKS):
                sent = await asyncio.to_thread(app.send_task, "shop.count_orders")
                # A file that is still being written would be read, and lost, by the worker.
                for message in (folder / "sent").iterdir():
                    message.rename(folder / "tasks" / message.name)
                while not await asyncio.to_thread(sent.ready):
                    await asyncio.sleep(0.02)
                ended.append(sent)
    return ended


async def test_incorrect_fails_from_the_second_task_on(
    incorrect: Block, database: Database, tmp_path: Path, witness: Witness
) -> None:
    first, *others = await _four_tasks(incorrect.code, tmp_path, database)
    assert (first.status, first.result) == ("SUCCESS", 2)
    assert [each.status for each in others] == ["FAILURE"] * 3
    witness.saw(*(each.traceback for each in others))
    assert "attached to a different loop" in others[0].traceback
    witness.observed(incorrect="4 tasks on one Celery worker: the first succeeded, 3 failed")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_correct_answers_all_tasks(
    correct: Block, database: Database, tmp_path: Path, pool: str, witness: Witness
) -> None:
    ended = await _four_tasks(correct.code, tmp_path, database, pool)
    assert [(each.status, each.result) for each in ended] == [("SUCCESS", 2)] * TASKS
    witness.observed(correct="4 tasks on one Celery worker: 4 succeeded")


def _without_tasks(block: Block) -> str:
    """The block up to its first function."""
    return block.code[: block.code.index("@asynccontextmanager")]


async def test_a_client_of_redis_that_several_tasks_share_fails_too(
    correct: Block, database: Database, redis_server: Redis, tmp_path: Path, witness: Witness
) -> None:
    code = _without_tasks(correct) + CACHE
    first, *others = await _four_tasks(code, tmp_path, database, REDIS_URL=redis_server.url)
    assert first.status == "SUCCESS"
    failed = [each.traceback for each in others if each.status == "FAILURE"]
    witness.saw(*failed)
    assert "Event loop is closed" in failed[0]


async def test_celery_does_not_call_the_handler_for_threads(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    called = ONE_LOOP[: ONE_LOOP.rindex("    return")] + "    return loop.is_running()\n"
    ended = await _four_tasks(_without_tasks(correct) + called, tmp_path, database, "threads")
    assert [(each.status, each.result) for each in ended] == [("SUCCESS", False)] * TASKS


async def test_with_one_loop_for_each_process_the_pool_keeps_its_connection(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    ended = await _four_tasks(_without_tasks(correct) + ONE_LOOP, tmp_path, database)
    assert [each.status for each in ended] == ["SUCCESS"] * TASKS
    assert len({each.result for each in ended}) == 1


def _run(block: Block, database: Database, driver: str = "asyncpg") -> Any:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        number: Mapped[int] = mapped_column(primary_key=True)

    url = database.url(driver)
    return block.run(broker_url="memory://", database_url=url, Order=Order)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_leaves_no_connection_open_with_tasks_in_threads(
    correct: Block, database: Database, driver: str
) -> None:
    """As under `celery worker --pool threads`: eight tasks at once, one after the other in each."""
    await database.execute(ORDERS)
    module = _run(correct, database, driver)
    module.app.finalize()  # a worker does so before its first task
    counts: list[int] = []

    def two_tasks() -> None:
        counts.extend(module.count_orders() for _ in range(2))

    threads = [threading.Thread(target=two_tasks, daemon=True) for _ in range(8)]
    for thread in threads:  # not a pool, which would wait without end for a task that does
        thread.start()
    deadline = time.monotonic() + 15
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert counts == [2] * 16
    await database.left()


async def test_correct_closes_its_connection_where_the_task_fails(
    correct: Block, database: Database
) -> None:
    module = _run(correct, database)  # there is no table
    with pytest.raises(ProgrammingError):
        await asyncio.to_thread(module.count_orders)
    await database.left()


async def test_one_task_at_a_time_may_share_an_engine_without_a_pool(database: Database) -> None:
    engine = create_async_engine(database.url(), poolclass=NullPool)

    async def ask() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(text("SELECT 7"))).scalar_one())

    def tasks() -> list[int]:
        return [asyncio.run(ask()) for _ in range(TASKS)]

    assert await asyncio.to_thread(tasks) == [7] * TASKS
    await database.left()


# Eight threads, each with a loop, ask one engine that has no pool, while its first connection is
# being prepared; prints how each thread ended, once seven have.
SHARED = """
import asyncio, os, sys, threading, time
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

engine = create_async_engine(sys.argv[1], poolclass=NullPool)
event.listen(engine.sync_engine.pool, "first_connect", lambda *_: time.sleep(1), insert=True)
ended = []

async def ask():
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT 7"))).scalar_one()

def task():
    try:
        ended.append(f"answered {asyncio.run(ask())}")
    except RuntimeError as error:
        ended.append(f"RuntimeError: {error}")

for _ in range(8):
    threading.Thread(target=task, daemon=True).start()
deadline = time.monotonic() + 50
while len(ended) < 7 and time.monotonic() < deadline:
    time.sleep(0.02)
time.sleep(0.3)
print("\\n".join(ended), flush=True)
os._exit(0)  # one waits for ever
"""


async def test_an_engine_without_a_pool_cannot_be_shared_by_loops_of_several_threads(
    database: Database, witness: Witness
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SHARED, database.url()), stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    lines = output.decode().splitlines()
    witness.saw(*lines)
    assert lines.count("answered 7") == 1
    assert sum("is bound to a different event loop" in line for line in lines) == len(lines) - 1
    assert len(lines) == 7


async def test_one_loop_in_a_thread_may_keep_a_pool(database: Database) -> None:
    """Twelve tasks of four threads share the connections of one engine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    engine = create_async_engine(database.url(), pool_size=2, max_overflow=0)

    async def backend() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())

    def task() -> int:
        return asyncio.run_coroutine_threadsafe(backend(), loop).result(20)

    try:
        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(task) for _ in range(12)]
            backends = await asyncio.gather(*map(asyncio.wrap_future, running))
        assert len(backends) == 12
        assert len(set(backends)) == 2
    finally:
        asyncio.run_coroutine_threadsafe(engine.dispose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, 10)
        loop.close()
