"""A worker loop ends when it is cancelled only where CancelledError leaves it."""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

Job = Callable[[], Awaitable[None]]


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    sent: Mapped[bool] = mapped_column(default=False)


async def _by_timeout(job: Job, reached: asyncio.Event) -> None:
    async def expire(limit: asyncio.Timeout) -> None:
        await reached.wait()
        limit.reschedule(0)

    async with asyncio.timeout(None) as limit:
        expiry = asyncio.create_task(expire(limit))
        await job()
    await expiry


async def _by_task_group(job: Job, reached: asyncio.Event) -> None:
    async def fail() -> None:
        await reached.wait()
        raise ConnectionError

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await job()


async def _by_cancel(job: Job, reached: asyncio.Event) -> None:
    task = asyncio.ensure_future(job())
    await reached.wait()
    task.cancel()
    await task


STOPS = [_by_timeout, _by_task_group, _by_cancel]


async def _stopped_at_the_third(
    block: Block, database: Database, stop: Callable[[Job, asyncio.Event], Awaitable[None]]
) -> tuple[BaseException | None, list[int]]:
    """What the caller of a job over 10 rows gets, and the rows sent; the second cannot be sent."""
    reached = asyncio.Event()

    async def send_invoice(invoice_id: int) -> None:
        assert invoice_id < 11, "sent already"
        if invoice_id == 2:
            raise ConnectionError
        if invoice_id == 3:
            reached.set()
            await asyncio.Event().wait()

    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            rows = [{"id": number, "sent": number == 11} for number in range(11, 0, -1)]
            await connection.execute(insert(Invoice), rows)
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = block.run(SessionFactory=factory, Invoice=Invoice, send_invoice=send_invoice)
        stopped = asyncio.ensure_future(stop(module.send_open_invoices, reached))
        await asyncio.wait([stopped], timeout=20)
        error = asyncio.CancelledError() if stopped.cancelled() else stopped.exception()
    sent = await database.fetch("SELECT id FROM invoices WHERE sent AND id < 11 ORDER BY id")
    return error, [row["id"] for row in sent]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(_by_timeout, type(None)), (_by_task_group, ExceptionGroup), (_by_cancel, type(None))],
)
async def test_incorrect_goes_on_to_the_end_whoever_stops_it(
    stop: Any,
    expected: type,
    incorrect: Block,
    database: Database,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    error, sent = await _stopped_at_the_third(incorrect, database, stop)
    assert (type(error), sent) == (expected, [1, 4, 5, 6, 7, 8, 9, 10])
    witness.observed(
        incorrect="stopped at row 3 of 10: the other 7 were sent too, and the timeout raised nothing"
    )


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (_by_timeout, TimeoutError),
        (_by_task_group, ExceptionGroup),
        (_by_cancel, asyncio.CancelledError),
    ],
)
async def test_correct_ends_where_it_is_stopped(
    stop: Any,
    expected: type,
    correct: Block,
    database: Database,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error, sent = await _stopped_at_the_third(correct, database, stop)
    assert (type(error), sent) == (expected, [1])
    assert [record.getMessage() for record in caplog.records] == ["invoice 2 failed"]
    assert caplog.records[0].exc_info
    witness.observed(correct="stopped at row 3 of 10: no further row was sent; TimeoutError")


async def test_a_stop_between_mail_and_update_sends_the_invoice_again(
    correct: Block, database: Database
) -> None:
    sent: list[int] = []

    async def send_invoice(invoice_id: int) -> None:
        sent.append(invoice_id)

    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            await connection.execute(insert(Invoice), [{"id": 1}, {"id": 2}])
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = correct.run(SessionFactory=factory, Invoice=Invoice, send_invoice=send_invoice)
        async with asyncio.timeout(20), engine.begin() as reader:
            await reader.execute(select(Invoice.id).with_for_update())  # so that the UPDATE waits
            task = asyncio.create_task(module.send_open_invoices())
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.wait([task], timeout=20)
        for _ in range(2):
            await module.send_open_invoices()
    assert sent == [1, 1, 2]


async def test_a_return_on_cancellation_silences_the_timeout() -> None:
    async def answer() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "cancelled"
        return "slept"

    async with asyncio.timeout(0.01) as limit:
        assert await answer() == "cancelled"
    assert limit.expired()


async def test_a_return_in_finally_swallows_the_cancellation_and_later_pythons_warn() -> None:
    code = "async def work(wait):\n try:\n  await wait()\n finally:\n  return 'ended'"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        namespace: dict[str, Any] = {}
        exec(code, namespace)
    warned = [f"{each.category.__name__}: {each.message}" for each in caught]
    expected = ["SyntaxWarning: 'return' in a 'finally' block"]
    assert warned == (expected if sys.version_info >= (3, 14) else [])
    task = asyncio.create_task(namespace["work"](asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "ended"


async def test_cancelled_error_can_be_caught_and_raised_again() -> None:
    events: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            events.append("stopped")
            raise

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), 0.01)
    assert events == ["stopped"]


async def test_under_an_anyio_scope_a_swallowed_cancellation_comes_again() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
            swallowed += 1

    async def scoped() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await work()

    await asyncio.wait_for(asyncio.create_task(scoped()), 10)
    assert swallowed == 3


async def _cancelled_while_it_waits_for_its_child(wait: Callable[[Any], Awaitable[Any]]) -> bool:
    """Whether a task that cancels its child, and is cancelled meanwhile, ends as cancelled."""
    started, ending = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            started.set()
            await asyncio.sleep(10)
        finally:
            ending.set()
            await asyncio.sleep(0.01)

    child = asyncio.create_task(slow_to_end())

    async def parent() -> None:
        await started.wait()
        child.cancel()
        await wait(child)

    task = asyncio.create_task(parent())
    await ending.wait()
    task.cancel()
    await asyncio.wait([task, child], timeout=10)
    return task.cancelled()


async def test_waiting_for_a_cancelled_child_may_swallow_ones_own_cancellation() -> None:
    async def suppressing(child: asyncio.Task[None]) -> None:
        with suppress(asyncio.CancelledError):
            await child

    async def waiting(child: asyncio.Task[None]) -> None:
        await asyncio.wait([child])

    assert not await _cancelled_while_it_waits_for_its_child(suppressing)
    assert await _cancelled_while_it_waits_for_its_child(waiting)


@pytest.mark.parametrize(
    ("uncancel", "expected"), [(False, asyncio.CancelledError), (True, TimeoutError)]
)
async def test_going_on_after_a_cancellation_needs_uncancel(
    uncancel: bool, expected: type[BaseException]
) -> None:
    async def go_on() -> None:
        async with asyncio.timeout(0.05):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
            if uncancel:
                current = asyncio.current_task()
                assert current
                current.uncancel()
            await asyncio.sleep(10)

    task = asyncio.create_task(go_on())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(expected):
        await task
