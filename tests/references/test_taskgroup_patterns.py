"""references/taskgroup-patterns.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.references.harness import (
    LIMIT,
    Ended,
    forever,
    run,
    turns,
    until,
)
from tests.services import free_port, serving


async def test_what_is_ready_in_time_stands_at_its_place_and_the_late_ones_have_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = Ended()

    async def soon() -> str:
        await asyncio.sleep(0)
        return "soon"

    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    async with asyncio.timeout(LIMIT):
        assert await ready_in_time([soon, late, soon], 0.5) == ["soon", None, "soon"]
    assert late.ended
    assert caplog.records == []


async def test_a_timeout_of_a_call_is_not_taken_for_the_deadline() -> None:
    async def times_out() -> None:
        raise TimeoutError

    late = Ended()
    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(ready_in_time([late, times_out], LIMIT), LIMIT)
    assert isinstance(caught.value.exceptions[0], TimeoutError)
    assert late.ended


async def _fails_as_it_is_cancelled() -> str:
    try:
        await forever()
    finally:
        raise ConnectionError("the connection is gone")
    return "never"


async def test_a_late_call_whose_clean_up_fails_costs_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    async with asyncio.timeout(LIMIT):
        answers = await ready_in_time([_answers, _fails_as_it_is_cancelled], 0.05)
    assert answers == ["answer", None]
    assert [record.message for record in caplog.records] == ["late call 1"]
    assert "the connection is gone" in caplog.text


async def _answers() -> str:
    await asyncio.sleep(0)
    return "answer"


async def _fails() -> str:
    await asyncio.sleep(0)
    raise ConnectionError("refused")


def _first_success() -> Any:
    return run("taskgroup-patterns", "first_success").first_success


async def test_the_first_success_ends_the_others(caplog: pytest.LogCaptureFixture) -> None:
    slow = Ended()
    async with asyncio.timeout(LIMIT):
        assert await _first_success()([slow, _answers], 0.05, (OSError,)) == "answer"
    assert slow.ended
    assert caplog.records == []


async def test_the_next_call_starts_at_once_after_a_failure_and_never_after_a_success() -> None:
    never = Ended()
    calls = [_fails, _answers, never]
    async with asyncio.timeout(LIMIT):
        assert await _first_success()(calls, 10 * LIMIT, (OSError,)) == "answer"
    assert not never.started


async def test_a_dead_server_is_one_of_the_errors_of_httpx_and_no_os_error() -> None:
    async def dead() -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{free_port()}")).text

    async with asyncio.timeout(LIMIT):
        expected = (httpx.TransportError,)
        assert await _first_success()([dead, _answers], 10 * LIMIT, expected) == "answer"
        with pytest.raises(ExceptionGroup) as caught:
            await _first_success()([dead, _answers], 10 * LIMIT, (OSError,))
    assert isinstance(caught.value.exceptions[0], httpx.ConnectError)


async def test_where_no_call_succeeds_all_errors_come_out() -> None:
    with pytest.raises(ExceptionGroup, match="no call succeeded") as caught:
        calls = [_fails, _fails, _fails]
        await asyncio.wait_for(_first_success()(calls, 10 * LIMIT, (OSError,)), LIMIT)
    assert [str(error) for error in caught.value.exceptions] == ["refused"] * 3
    with pytest.raises(ExceptionGroup, match="no call succeeded") as caught:
        await _first_success()([], 10 * LIMIT, (OSError,))
    assert [str(error) for error in caught.value.exceptions] == ["no calls"]


async def test_a_loser_whose_clean_up_fails_costs_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asyncio.timeout(LIMIT):
        calls = [_fails_as_it_is_cancelled, _answers]
        assert await _first_success()(calls, 0.05, (LookupError,)) == "answer"
    logged = "a call failed: ConnectionError('the connection is gone')"
    assert [record.message for record in caplog.records] == [logged]


async def test_a_supervised_service_that_fails_or_returns_starts_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = run("taskgroup-patterns", "running")
    starts = 0

    async def refresh() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise ConnectionError
        if starts > 2:
            await forever()

    steady = Ended()
    services = {"refresh": refresh, "steady": steady}
    async with asyncio.timeout(LIMIT), module.running(services, pause=0.001):
        await until(lambda: starts == 3)
        assert not steady.ended
    assert steady.ended
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["refresh failed", "refresh returned"]


async def test_a_service_pauses_before_it_starts_again() -> None:
    module = run("taskgroup-patterns", "running")
    starts = 0

    async def refresh() -> None:
        nonlocal starts
        starts += 1

    async with module.running({"refresh": refresh}, pause=LIMIT):
        await turns()
    assert starts == 1


async def test_a_service_whose_clean_up_fails_ends_at_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = run("taskgroup-patterns", "running")
    starts = 0

    async def consume() -> None:
        nonlocal starts
        starts += 1
        await _fails_as_it_is_cancelled()

    async with asyncio.timeout(LIMIT), module.running({"consume": consume}, pause=0):
        await until(lambda: starts == 1)
    assert starts == 1
    assert [record.getMessage() for record in caplog.records] == ["consume failed"]


def test_a_group_can_be_cancelled_from_3_15_on() -> None:
    assert hasattr(asyncio.TaskGroup, "cancel") is (sys.version_info >= (3, 15))


async def test_services_end_before_what_is_below_them_on_the_stack_of_a_lifespan() -> None:
    running = run("taskgroup-patterns", "running").running
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


@pytest.mark.skipif(sys.version_info < (3, 15), reason="TaskGroup.cancel() is new in Python 3.15")
async def test_a_group_ends_early_by_its_cancel_and_nothing_comes_out() -> None:
    late = Ended()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        child = group.create_task(late())
        await turns()
        group.cancel()  # type: ignore[attr-defined,unused-ignore]
    current = asyncio.current_task()
    assert current
    assert (late.ended, child.cancelled(), current.cancelling()) == (True, True, 0)
