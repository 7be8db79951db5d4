"""Clean-up that awaits is aborted by a cancellation, unless it runs in a task of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, proxied


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    locked: Mapped[bool] = mapped_column(default=False)


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


async def _cancelled_during_its_clean_up(
    block: Block, database: Database, *, cancelled_before: bool
) -> tuple[bool, bool]:
    """Whether the account stays locked, and whether the task ends as cancelled."""
    working, done = asyncio.Event(), asyncio.Event()

    async def close_books(account_id: int) -> None:
        working.set()
        await done.wait()

    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        async with factory.begin() as session:
            session.add(Account(id=1, locked=False))
        module = block.run(SessionFactory=factory, Account=Account, close_books=close_books)
        task = asyncio.create_task(module.close_month(1))
        async with asyncio.timeout(10):
            await working.wait()
            async with engine.begin() as reader:  # so that the clean-up has to wait
                await reader.execute(select(Account.id).with_for_update())
                if cancelled_before:
                    task.cancel()
                else:
                    done.set()
                while not await database.fetchval(WAITING):
                    await asyncio.sleep(0.01)
                for _ in range(2):
                    task.cancel()
                    await asyncio.sleep(0.01)
        await asyncio.wait([task], timeout=10)
    return await database.fetchval("SELECT locked FROM accounts"), task.cancelled()


@pytest.mark.parametrize("cancelled_before", [True, False])
async def test_incorrect_leaves_the_account_locked(
    cancelled_before: bool, incorrect: Block, database: Database, witness: Witness
) -> None:
    locked, cancelled = await _cancelled_during_its_clean_up(
        incorrect, database, cancelled_before=cancelled_before
    )
    assert (locked, cancelled) == (True, True)
    witness.observed(incorrect="cancelled during its clean-up: the account stayed locked")


@pytest.mark.parametrize("cancelled_before", [True, False])
async def test_correct_unlocks_the_account_and_ends_as_cancelled(
    cancelled_before: bool, correct: Block, database: Database, witness: Witness
) -> None:
    locked, cancelled = await _cancelled_during_its_clean_up(
        correct, database, cancelled_before=cancelled_before
    )
    assert (locked, cancelled) == (False, True)
    witness.observed(correct="cancelled during its clean-up: unlocked, then CancelledError")


async def _cancelled_while_its_commit_is_answered(
    block: Block, database: Database
) -> tuple[bool, bool]:
    """Whether the account is locked in the end, and whether the task ends as cancelled."""

    async def close_books(account_id: int) -> None:
        raise AssertionError

    async with (
        proxied(database.server.port) as proxy,
        engine_with(Base, make_url(database.url()).set(port=proxy.port)) as engine,
    ):
        async with engine.begin() as connection:
            await connection.execute(insert(Account).values(id=1, locked=False))
        factory = async_sessionmaker(engine)
        module = block.run(SessionFactory=factory, Account=Account, close_books=close_books)
        proxy.silent_after = b"COMMIT;"
        task = asyncio.create_task(module.close_month(1))
        async with asyncio.timeout(10):
            while not await database.fetchval("SELECT locked FROM accounts"):
                await asyncio.sleep(0.01)
        task.cancel()
        proxy.answering.set()
        await asyncio.wait([task], timeout=10)
    return await database.fetchval("SELECT locked FROM accounts"), task.cancelled()


async def test_incorrect_leaves_locked_what_a_cancelled_commit_locked(
    incorrect: Block, database: Database
) -> None:
    assert await _cancelled_while_its_commit_is_answered(incorrect, database) == (True, True)


async def test_correct_unlocks_what_a_cancelled_commit_locked(
    correct: Block, database: Database
) -> None:
    assert await _cancelled_while_its_commit_is_answered(correct, database) == (False, True)


RAISE = """    if cancelled:
        raise asyncio.CancelledError  # asyncio logs what clean_up raised
"""
RESULT = "    task.result()\n"


async def _rounds_of_a_cancelled_loop(block: Block) -> tuple[int, bool]:
    """The rounds of a loop whose clean-up fails, and whether it ends as cancelled.

    It catches errors, has three rounds, and is cancelled in the clean-up of the first.
    """
    module = block.run(SessionFactory=None, Account=Account, close_books=None)
    started = asyncio.Event()
    rounds = 0

    async def clean_up() -> None:
        started.set()
        await asyncio.sleep(0.01)
        raise ConnectionError

    async def loop() -> None:
        nonlocal rounds
        for _ in range(3):
            rounds += 1
            with suppress(Exception):
                await module.finish(clean_up())

    task = asyncio.create_task(loop())
    await asyncio.wait_for(started.wait(), 10)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    return rounds, task.cancelled()


async def test_a_clean_up_that_fails_does_not_hide_the_cancellation(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _rounds_of_a_cancelled_loop(correct) == (1, True)
    gc.collect()
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [
        ConnectionError
    ]
    assert RAISE + RESULT in correct.code
    result_first = replace(correct, code=correct.code.replace(RAISE + RESULT, RESULT + RAISE))
    assert await _rounds_of_a_cancelled_loop(result_first) == (3, False)


async def test_a_timeout_around_a_clean_up_that_fails_is_still_a_timeout(correct: Block) -> None:
    module = correct.run(SessionFactory=None, Account=Account, close_books=None)

    async def clean_up() -> None:
        await asyncio.sleep(0.1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await module.finish(clean_up())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await module.finish(clean_up())


async def test_a_clean_up_that_hangs_ends_with_a_timeout(correct: Block) -> None:
    module = correct.run(SessionFactory=None, Account=Account, close_books=None)
    with pytest.raises(TimeoutError):
        await module.finish(asyncio.sleep(10), 0.01)


async def test_behind_a_shield_alone_the_caller_leaves_and_the_error_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    events: list[str] = []
    go_on = asyncio.Event()

    async def clean_up() -> None:
        await go_on.wait()
        events.append("cleaned up")
        raise ConnectionError

    async def work() -> None:
        try:
            await asyncio.shield(clean_up())
        finally:
            events.append("left")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert events == ["left", "cleaned up"]
    assert "Task exception was never retrieved" in caplog.text


async def test_asyncio_run_cancels_a_running_clean_up_at_its_end(correct: Block) -> None:
    module = correct.run(SessionFactory=None, Account=Account, close_books=None)
    events: list[str] = []

    async def clean_up(started: asyncio.Event) -> None:
        try:
            started.set()
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            events.append("clean-up cancelled")
            raise

    async def main() -> None:
        started = asyncio.Event()
        left = asyncio.create_task(module.finish(clean_up(started)))
        await started.wait()
        events.append("main ended before it" if not left.done() else "main ended after it")

    await asyncio.to_thread(asyncio.run, main())
    assert events == ["main ended before it", "clean-up cancelled"]
