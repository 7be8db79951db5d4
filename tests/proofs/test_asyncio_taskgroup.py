"""After a failure gather's siblings run on and write; those of a TaskGroup have ended."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.proofs.harness import Block, Witness
from tests.services import serving

ORDERS = [1, 2, 3, 4, 5]
FAILING = 3


class PaymentError(Exception):
    pass


@dataclass
class Charges:
    """Five charges that have all started; one fails, the others wait for the gate."""

    late_errors: bool = False
    started: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(len(ORDERS)))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    written: list[int] = field(default_factory=list)
    raised_late: int = 0
    caught: Exception | None = None
    running: int = 0

    async def charge(self, order_id: int) -> str:
        await self.started.wait()
        if order_id == FAILING:
            raise PaymentError(order_id)
        await self.gate.wait()
        if self.late_errors:
            self.raised_late += 1
            raise PaymentError(order_id)
        self.written.append(order_id)
        return f"receipt {order_id}"

    async def run(self, block: Block) -> None:
        """Charge all, count what still runs once the error is out, then open the gate."""
        before = asyncio.all_tasks()
        try:
            async with asyncio.timeout(10):
                await block.run(charge=self.charge).charge_all(ORDERS)
        except Exception as error:
            self.caught = error
        left = asyncio.all_tasks() - before
        self.running = len(left)
        self.gate.set()
        if left:
            await asyncio.wait(left, timeout=10)


async def _receipts(block: Block) -> list[str]:
    """What charging two orders gives where nothing fails."""

    async def charge(order_id: int) -> str:
        return f"receipt {order_id}"

    receipts: list[str] = await block.run(charge=charge).charge_all([2, 1])
    return receipts


async def test_incorrect_writes_after_the_caller_has_the_error(
    incorrect: Block, witness: Witness
) -> None:
    charges = Charges()
    await charges.run(incorrect)
    assert isinstance(charges.caught, PaymentError)
    assert (charges.running, sorted(charges.written)) == (4, [1, 2, 4, 5])
    assert await _receipts(incorrect) == ["receipt 2", "receipt 1"]
    witness.observed(incorrect="1 of 5 failed: 4 still running, and all 4 written after the error")


async def test_correct_has_ended_every_sibling_when_it_raises(
    correct: Block, witness: Witness
) -> None:
    charges = Charges()
    await charges.run(correct)
    assert isinstance(charges.caught, ExceptionGroup)
    assert [each.args for each in charges.caught.exceptions] == [(FAILING,)]
    assert (charges.running, charges.written) == (0, [])
    assert await _receipts(correct) == ["receipt 2", "receipt 1"]
    witness.observed(correct="1 of 5 failed: 0 still running, 0 written after the error")


async def test_incorrect_loses_later_errors_without_a_log_line(
    incorrect: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        charges = Charges(late_errors=True)
        await charges.run(incorrect)
        gc.collect()
    finally:
        loop.set_exception_handler(handler)
    assert charges.raised_late == 4
    assert (unhandled, caplog.records) == ([], [])
    assert charges.caught
    assert (charges.caught.__cause__, charges.caught.__context__) == (None, None)


async def test_a_group_undoes_nothing() -> None:
    written: list[int] = []

    async def write() -> None:
        written.append(1)

    async def fail_after(first: asyncio.Task[None]) -> None:
        await first
        raise PaymentError

    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(fail_after(group.create_task(write())))
    assert written == [1]


async def test_what_a_remote_service_does_for_a_cancelled_sibling_is_done_and_not_recorded(
    correct: Block,
) -> None:
    arrived: list[int] = []
    charged: list[int] = []
    intended: list[int] = []
    recorded: list[int] = []
    all_arrived, error_is_out = asyncio.Event(), asyncio.Event()
    provider = FastAPI()

    @provider.post("/charges/{order_id}")
    async def take(order_id: int) -> None:
        arrived.append(order_id)
        if len(arrived) == 4:
            all_arrived.set()
        await error_is_out.wait()
        charged.append(order_id)

    async with serving(provider) as served, httpx.AsyncClient(base_url=served.url) as client:

        async def charge(order_id: int) -> str:
            if order_id == FAILING:
                await all_arrived.wait()
                raise PaymentError(order_id)
            intended.append(order_id)
            await client.post(f"/charges/{order_id}")
            recorded.append(order_id)
            return f"receipt {order_id}"

        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup):
                await correct.run(charge=charge).charge_all(ORDERS)
            error_is_out.set()
            while len(charged) < 4:
                await asyncio.sleep(0.01)
    assert sorted(charged) == sorted(intended) == [1, 2, 4, 5]
    assert recorded == []


async def test_a_child_cancelled_on_its_own_does_not_fail_the_group() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.Event().wait())
        group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        task.result()
