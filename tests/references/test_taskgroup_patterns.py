"""references/taskgroup-patterns.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from fastapi import FastAPI

from tests.proofs.harness import RuleFile
from tests.references.harness import (
    LIMIT,
    Ended,
    forever,
    run,
    until,
)
from tests.services import serving


async def test_a_group_gives_results_in_the_order_of_the_calls() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    ended: list[int] = []

    async def charge(place: int) -> str:
        await gates[place].wait()
        ended.append(place)
        if place:
            gates[place - 1].set()
        return f"receipt {place}"

    gates[2].set()
    module = RuleFile.load("asyncio-taskgroup").block(correct=True).run(charge=charge)
    receipts = await asyncio.wait_for(module.charge_all([0, 1, 2]), LIMIT)
    assert ended == [2, 1, 0]
    assert receipts == ["receipt 0", "receipt 1", "receipt 2"]


async def test_what_is_ready_in_time_stands_at_its_place_and_the_late_ones_have_ended() -> None:
    late = Ended()

    async def soon() -> str:
        await asyncio.sleep(0)
        return "soon"

    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    async with asyncio.timeout(LIMIT):
        assert await ready_in_time([soon, late, soon], 0.5) == ["soon", None, "soon"]
    assert late.ended


async def test_a_timeout_of_a_call_is_not_taken_for_the_deadline() -> None:
    async def times_out() -> None:
        raise TimeoutError

    late = Ended()
    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(ready_in_time([late, times_out], LIMIT), LIMIT)
    assert isinstance(caught.value.exceptions[0], TimeoutError)
    assert late.ended

    async def suppressed() -> str:
        with suppress(TimeoutError):
            async with asyncio.TaskGroup() as group:
                group.create_task(times_out())
        return "hidden"

    if sys.version_info >= (3, 12):
        assert await suppressed() == "hidden"
    else:
        with pytest.raises(ExceptionGroup):
            await suppressed()


async def _answers() -> str:
    await asyncio.sleep(0)
    return "answer"


async def _fails() -> str:
    await asyncio.sleep(0)
    raise ConnectionError("refused")


async def test_the_first_success_ends_the_others() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    slow = Ended()
    async with asyncio.timeout(LIMIT):
        assert await first_success([slow, _answers], 0.05) == "answer"
    assert slow.ended


async def test_the_next_call_starts_at_once_after_a_failure_and_never_after_a_success() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    never = Ended()
    async with asyncio.timeout(LIMIT):
        assert await first_success([_fails, _answers, never], delay=10 * LIMIT) == "answer"
    assert not never.started


async def test_where_no_call_succeeds_all_errors_come_out() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    with pytest.raises(ExceptionGroup, match="no call succeeded") as caught:
        await asyncio.wait_for(first_success([_fails, _fails, _fails], 10 * LIMIT), LIMIT)
    assert [str(error) for error in caught.value.exceptions] == ["refused"] * 3


async def test_a_supervised_service_starts_again_after_pauses_that_double(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = run("taskgroup-patterns", "supervise")
    starts = 0

    async def refresh() -> None:
        nonlocal starts
        starts += 1
        if starts <= 4:
            raise ConnectionError
        await forever()

    steady = Ended()
    services = {"refresh": refresh, "steady": steady}
    async with module.running(services, pause=0.001, longest=0.004):
        await until(lambda: starts == 5)
        assert not steady.ended
    assert steady.ended
    assert [record.getMessage() for record in caplog.records] == [
        f"refresh failed, next start in {pause} s" for pause in (0.001, 0.002, 0.004, 0.004)
    ]


async def test_services_end_before_what_is_below_them_on_the_stack_of_a_lifespan() -> None:
    running = run("taskgroup-patterns", "supervise").running
    order: list[str] = []

    async def refresh() -> None:
        order.append("started")
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("ended")

    @asynccontextmanager
    async def pool() -> AsyncIterator[None]:
        yield
        order.append("pool closed")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(pool())
            await stack.enter_async_context(running({"refresh": refresh}))
            yield

    async with serving(FastAPI(lifespan=lifespan)):
        await until(lambda: order)
    assert order == ["started", "ended", "pool closed"]
