"""After a failure gather's siblings run on and hold what they hold; those of a TaskGroup end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import sqlalchemy.exc
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database, serving

FAILING = "price"
OTHERS = ["customer", "lines", "shipping", "stock"]


class NoPrice(Exception):
    pass


@dataclass
class Page:
    """Five reads that have all started; one fails, the others wait for the gate."""

    started: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(5))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    late_errors: bool = False
    raised_late: int = 0

    async def fetch_part(self, _: int, part: str) -> str:
        await self.started.wait()
        if part == FAILING:
            raise NoPrice
        await self.gate.wait()
        if self.late_errors:
            self.raised_late += 1
            raise NoPrice
        return part


async def _parts(block: Block) -> dict[str, str]:
    """The page of order 7 where nothing fails, and the reads end in the reverse order."""
    waiting: list[asyncio.Event] = []

    async def fetch_part(order_id: int, part: str) -> str:
        turn = asyncio.Event()
        waiting.append(turn)
        if len(waiting) == 5:
            turn.set()
        await turn.wait()
        waiting.pop()
        if waiting:
            waiting[-1].set()
        return f"{part} of {order_id}"

    async with asyncio.timeout(10):
        page: dict[str, str] = await block.run(fetch_part=fetch_part).read_order_page(7)
    return page


PAGE = {part: f"{part} of 7" for part in [*OTHERS, FAILING]}


async def _left(block: Block, page: Page) -> tuple[Exception | None, int]:
    """The error of a page, and how many of its reads still run once the error is out."""
    before = asyncio.all_tasks()
    error: Exception | None = None
    try:
        async with asyncio.timeout(10):
            await block.run(fetch_part=page.fetch_part).read_order_page(7)
    except Exception as caught:
        error = caught
    left = asyncio.all_tasks() - before
    page.gate.set()
    if left:
        await asyncio.wait(left, timeout=10)
    return error, len(left)


async def test_incorrect_leaves_four_reads_running(incorrect: Block) -> None:
    assert await _parts(incorrect) == PAGE
    error, running = await _left(incorrect, Page())
    assert (type(error), running) == (NoPrice, 4)


async def test_correct_has_ended_every_read_when_it_raises(correct: Block) -> None:
    assert await _parts(correct) == PAGE
    error, running = await _left(correct, Page())
    assert isinstance(error, ExceptionGroup)
    assert [type(each) for each in error.exceptions] == [NoPrice]
    assert running == 0


async def test_incorrect_loses_later_errors_without_a_log_line(
    incorrect: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        page = Page(late_errors=True)
        error, _ = await _left(incorrect, page)
        gc.collect()
    finally:
        loop.set_exception_handler(handler)
    assert page.raised_late == 4
    assert (unhandled, caplog.records) == ([], [])
    assert error
    assert (error.__cause__, error.__context__) == (None, None)


async def _connections_after_an_error(block: Block, database: Database) -> tuple[int, bool]:
    """How many of the 4 connections are in use after the error, and whether a request gets one."""
    engine: AsyncEngine = create_async_engine(
        database.url(), pool_size=4, max_overflow=0, pool_timeout=0.2
    )
    all_read, before = asyncio.Barrier(5), asyncio.all_tasks()

    async def fetch_part(_: int, part: str) -> str:
        if part == FAILING:
            await all_read.wait()
            raise NoPrice
        async with engine.connect() as connection:
            await all_read.wait()
            await connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        return part

    async with asyncio.timeout(20):
        async with create_async_engine(database.url()).connect() as slow:
            await slow.execute(text("SELECT pg_advisory_xact_lock(1)"))  # the reads wait for it
            with pytest.raises((NoPrice, ExceptionGroup)):
                await block.run(fetch_part=fetch_part).read_order_page(7)
            in_use = engine.pool.checkedout()  # type: ignore[attr-defined]
            try:
                async with engine.connect():
                    served = True
            except sqlalchemy.exc.TimeoutError:
                served = False
        await slow.engine.dispose()
        if left := asyncio.all_tasks() - before:
            await asyncio.wait(left)
        await engine.dispose()
    return in_use, served


async def test_incorrect_holds_every_connection_after_the_error(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _connections_after_an_error(incorrect, database) == (4, False)
    witness.observed(
        incorrect="1 of 5 reads failed: 4 running, 4 of 4 connections in use after the error"
    )


async def test_correct_holds_no_connection_after_the_error(
    correct: Block, database: Database, witness: Witness
) -> None:
    assert await _connections_after_an_error(correct, database) == (0, True)
    witness.observed(correct="1 of 5 reads failed: 0 running, 0 connections in use after the error")


async def test_a_group_undoes_nothing() -> None:
    written: list[int] = []

    async def write() -> None:
        written.append(1)

    async def fail_after(first: asyncio.Task[None]) -> None:
        await first
        raise NoPrice

    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(fail_after(group.create_task(write())))
    assert written == [1]


class PaymentError(Exception):
    pass


Charge = Callable[[int], Coroutine[Any, Any, None]]


async def _plain(charge: Charge, orders: list[int]) -> None:
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for order_id in orders:
                group.create_task(charge(order_id))


async def _caught_in_the_child(charge: Charge, orders: list[int]) -> None:
    failed: list[int] = []

    async def charge_or_note(order_id: int) -> None:
        try:
            await charge(order_id)
        except PaymentError:
            failed.append(order_id)

    async with asyncio.TaskGroup() as group:
        for order_id in orders:
            group.create_task(charge_or_note(order_id))
    assert failed == [3]


@pytest.mark.parametrize(("charge_all", "count"), [(_plain, 0), (_caught_in_the_child, 4)])
async def test_charges_of_cancelled_siblings_are_done_and_not_recorded(
    charge_all: Any, count: int
) -> None:
    arrived: list[int] = []
    charged: list[int] = []
    intended: list[int] = []
    recorded: list[int] = []
    all_arrived, failed = asyncio.Event(), asyncio.Event()
    provider = FastAPI()

    @provider.post("/charges/{order_id}")
    async def take(order_id: int) -> None:
        arrived.append(order_id)
        if len(arrived) == 4:
            all_arrived.set()
        await failed.wait()
        charged.append(order_id)

    async with serving(provider) as served, httpx.AsyncClient(base_url=served.url) as client:

        async def charge(order_id: int) -> None:
            if order_id == 3:
                await all_arrived.wait()
                asyncio.get_running_loop().call_later(0.05, failed.set)
                raise PaymentError
            intended.append(order_id)
            await client.post(f"/charges/{order_id}")
            recorded.append(order_id)

        async with asyncio.timeout(10):
            await charge_all(charge, [1, 2, 3, 4, 5])
            while len(charged) < 4:
                await asyncio.sleep(0.01)
    assert sorted(charged) == sorted(intended) == [1, 2, 4, 5]
    assert len(recorded) == count


async def test_a_child_cancelled_on_its_own_does_not_fail_the_group() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.Event().wait())
        group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        task.result()


async def _order_of_events(*, eager: bool = False, **options: bool) -> list[str]:
    """What happens when a child is created with these options, in a loop of its own."""
    events: list[str] = []

    async def child() -> None:
        events.append("child runs")

    async def main() -> None:
        if eager:
            factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
            asyncio.get_running_loop().set_task_factory(factory)
        async with asyncio.TaskGroup() as group:
            group.create_task(child(), **options)  # type: ignore[arg-type,unused-ignore]
            events.append("created")

    await asyncio.to_thread(asyncio.run, main())
    return events


async def test_an_eager_task_runs_before_create_task_returns() -> None:
    assert await _order_of_events() == ["created", "child runs"]
    assert hasattr(asyncio, "eager_task_factory") is (sys.version_info >= (3, 12))
    if sys.version_info >= (3, 12):
        assert await _order_of_events(eager=True) == ["child runs", "created"]
    if sys.version_info >= (3, 14):
        assert await _order_of_events(eager_start=True) == ["child runs", "created"]
