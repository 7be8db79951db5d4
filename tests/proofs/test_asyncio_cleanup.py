"""Clean-up that awaits is aborted by a cancellation, unless it runs in a task of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest
from fastapi.responses import StreamingResponse
from sqlalchemy import insert, make_url, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, proxied


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    locked_by: Mapped[str | None]


class Accounts:
    """Locks accounts for their owners."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.begin = async_sessionmaker(engine).begin

    async def lock(self, account_id: int, owner: str) -> None:
        free = update(Account).where(Account.id == account_id, Account.locked_by.is_(None))
        async with self.begin() as session:
            locked = free.values(locked_by=owner).returning(Account.id)
            if await session.scalar(locked) is None:
                raise RuntimeError(f"account {account_id} is locked")

    async def unlock(self, account_id: int, owner: str) -> None:
        own = update(Account).where(Account.id == account_id, Account.locked_by == owner)
        async with self.begin() as session:
            await session.execute(own.values(locked_by=None))

    def run(self, block: Block, close_books: Any) -> Any:
        return block.run(lock=self.lock, unlock=self.unlock, close_books=close_books)


def _module(block: Block) -> Any:
    """The block for its function `finish` alone."""
    return block.run(lock=None, unlock=None, close_books=None)


async def test_correct_holds_its_caller_until_the_clean_up_has_ended(correct: Block) -> None:
    go_on = asyncio.Event()
    events: list[str] = []

    async def clean_up() -> None:
        await go_on.wait()
        events.append("cleaned up")

    task = asyncio.create_task(_module(correct).finish(clean_up()))
    task.add_done_callback(lambda _: events.append("left"))
    for _ in range(3):
        for _turn in range(5):
            await asyncio.sleep(0)
        task.cancel()
    for _turn in range(5):
        await asyncio.sleep(0)
    assert events == []
    go_on.set()
    await asyncio.wait([task], timeout=10)
    await asyncio.sleep(0)
    assert (events, task.cancelled()) == (["cleaned up", "left"], True)


async def _under_a_cancelled_scope(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, bool]:
    """How often `finish` waited under an AnyIO scope, and whether the scope took its exception."""
    waits = 0
    wait = asyncio.wait

    async def counted(*args: Any) -> Any:
        nonlocal waits
        waits += 1
        return await wait(*args)

    async def work() -> bool:
        with anyio.CancelScope() as scope:

            async def clean_up() -> None:
                scope.cancel()
                for _ in range(20):
                    await asyncio.sleep(0.001)

            await _module(block).finish(clean_up())
            await asyncio.sleep(10)
        return scope.cancelled_caught

    monkeypatch.setattr(asyncio, "wait", counted)
    task = asyncio.create_task(work())
    await wait([task], timeout=20)
    monkeypatch.undo()
    return waits, not task.cancelled() and task.result()


async def test_under_an_anyio_scope_the_shield_keeps_the_cancellation_out(
    correct: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _under_a_cancelled_scope(correct, monkeypatch) == (1, True)
    assert "shield=True" in correct.code
    unshielded = replace(correct, code=correct.code.replace("shield=True", ""))
    waits, caught = await _under_a_cancelled_scope(unshielded, monkeypatch)
    assert waits > 10
    assert not caught


async def test_a_stream_whose_client_leaves_ends_its_clean_up(correct: Block) -> None:
    finish = _module(correct).finish
    events: list[str] = []
    started = asyncio.Event()

    async def clean_up() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        events.append("cleaned up")

    async def lines() -> AsyncIterator[bytes]:
        try:
            yield b"line"
            await asyncio.sleep(10)
        finally:
            await finish(clean_up())

    async def receive() -> dict[str, Any]:
        await started.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        started.set()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}  # uvicorn's
    await asyncio.wait_for(StreamingResponse(lines())(scope, receive, send), 10)
    events.append("left")
    assert events == ["cleaned up", "left"]


async def _as_by(undo_inside_try: bool, lock: Any) -> tuple[bool, asyncio.Task[None]]:
    """Whether one still has the lock after a cancelled waiter has left, and the first task."""
    working, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        if undo_inside_try:
            try:
                await lock.acquire()
                working.set()
                await done.wait()
            finally:
                lock.release()
        else:
            async with lock:
                working.set()
                await done.wait()

    first = asyncio.create_task(work())
    await working.wait()
    waiter = asyncio.create_task(work())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    locked = lock.locked()
    done.set()
    await asyncio.wait([first])
    return locked, first


async def test_what_has_no_owner_is_taken_before_try() -> None:
    locked, first = await _as_by(True, asyncio.Lock())
    assert (locked, str(first.exception())) == (False, "Lock is not acquired.")
    assert (await _as_by(False, asyncio.Lock()))[0]

    semaphore = asyncio.Semaphore(1)
    await _as_by(True, semaphore)
    assert semaphore._value == 2
    semaphore = asyncio.Semaphore(1)
    await _as_by(False, semaphore)
    assert semaphore._value == 1


LOCKED = "SELECT locked_by IS NOT NULL FROM accounts"
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
        async with engine.begin() as connection:
            await connection.execute(insert(Account).values(id=1))
        module = Accounts(engine).run(block, close_books)
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
    return await database.fetchval(LOCKED), task.cancelled()


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
            await connection.execute(insert(Account).values(id=1))
        module = Accounts(engine).run(block, close_books)
        proxy.silent_after = b"COMMIT;"
        task = asyncio.create_task(module.close_month(1))
        async with asyncio.timeout(10):
            while not await database.fetchval(LOCKED):
                await asyncio.sleep(0.01)
        task.cancel()
        proxy.answering.set()
        await asyncio.wait([task], timeout=10)
    return await database.fetchval(LOCKED), task.cancelled()


async def test_incorrect_leaves_locked_what_a_cancelled_commit_locked(
    incorrect: Block, database: Database
) -> None:
    assert await _cancelled_while_its_commit_is_answered(incorrect, database) == (True, True)


async def test_correct_unlocks_what_a_cancelled_commit_locked(
    correct: Block, database: Database
) -> None:
    assert await _cancelled_while_its_commit_is_answered(correct, database) == (False, True)


async def test_correct_unlocks_only_what_it_has_locked_itself(database: Database) -> None:
    correct = RuleFile.load("asyncio-cleanup").block(correct=True)
    seen: list[str | None] = []

    async def close_books(_: int) -> None:
        seen.append(await database.fetchval("SELECT locked_by FROM accounts WHERE id = 1"))
        with pytest.raises(RuntimeError, match="account 1 is locked"):
            await module.close_month(1)
        seen.append(await database.fetchval("SELECT locked_by FROM accounts WHERE id = 1"))

    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            await connection.execute(insert(Account).values(id=1))
        module = Accounts(engine).run(correct, close_books)
        for _ in range(2):
            await module.close_month(1)
    assert seen[0] == seen[1] is not None
    assert seen[2] == seen[3] is not None
    assert seen[0] != seen[2]
    assert not await database.fetchval(LOCKED)


RAISE = """    if cancelled:
        raise asyncio.CancelledError  # asyncio logs what clean_up raised
"""
RESULT = "    task.result()\n"


async def _rounds_of_a_cancelled_loop(block: Block) -> tuple[int, bool]:
    """The rounds of a loop whose clean-up fails, and whether it ends as cancelled.

    It catches errors, has three rounds, and is cancelled in the clean-up of the first.
    """
    module = _module(block)
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
    module = _module(correct)

    async def clean_up() -> None:
        await asyncio.sleep(0.1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await module.finish(clean_up())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await module.finish(clean_up())


async def test_a_clean_up_that_hangs_ends_with_a_timeout(correct: Block) -> None:
    module = _module(correct)
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
    # Python 3.14.8 has words of its own for it.
    logged = ("Task exception was never retrieved", "exception in shielded future")
    assert any(each in caplog.text for each in logged)


async def test_asyncio_run_cancels_a_running_clean_up_at_its_end(correct: Block) -> None:
    module = _module(correct)
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
