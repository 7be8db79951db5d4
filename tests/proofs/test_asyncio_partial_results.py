"""An error that leaves a child costs the siblings' results; one caught inside it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import httpx
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.proofs.harness import Block, Witness
from tests.services import free_port

NAMED = "(httpx.HTTPError, TimeoutError)"
SOURCES = ["fast", "slow", "slower", "down", "down later"]


async def _collect(block: Block) -> dict[str, float]:
    """Ask five sources: one answers first, then one is down, then the rest goes on."""
    first, second = asyncio.Event(), asyncio.Event()

    async def fetch_price(source: str) -> float:
        if source == "fast":
            first.set()
            return 1.0
        if source == "down":
            await first.wait()
            second.set()
            raise httpx.ConnectError(source)
        await second.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        if source == "down later":
            raise TimeoutError(source)
        return 2.0

    async with asyncio.timeout(10):
        prices: dict[str, float] = await block.run(fetch_price=fetch_price).collect_prices(SOURCES)
    return prices


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


async def _bug(_: object = None) -> float:
    raise TypeError("a bug")


async def test_incorrect_loses_good_results_and_errors(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _collect(incorrect) == {"fast": 1.0}
    assert _warnings(caplog) == ["no price: ConnectError('down')"]
    witness.observed(incorrect="2 of 5 sources down: 1 of 3 prices and 1 of 2 errors left")


async def test_correct_keeps_all_of_both(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _collect(correct) == {"fast": 1.0, "slow": 2.0, "slower": 2.0}
    assert sorted(_warnings(caplog)) == [
        "no price from down later: TimeoutError('down later')",
        "no price from down: ConnectError('down')",
    ]
    witness.observed(correct="2 of 5 sources down: 3 of 3 prices and 2 of 2 errors kept")


async def test_correct_raises_an_error_that_it_does_not_name(correct: Block) -> None:
    assert len(await _collect(correct)) == 3
    with pytest.raises(ExceptionGroup) as caught:
        await correct.run(fetch_price=_bug).collect_prices(["fast"])
    assert isinstance(caught.value.exceptions[0], TypeError)
    broad = replace(correct, code=correct.code.replace(NAMED, "Exception"))
    assert NAMED in correct.code
    assert await broad.run(fetch_price=_bug).collect_prices(["fast"]) == {}


async def test_return_exceptions_gives_bugs_and_cancellations_as_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    cancelled = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(cancelled.cancel)
    async with asyncio.timeout(10):
        results = await asyncio.gather(_bug(), cancelled, return_exceptions=True)
    assert [type(each) for each in results] == [TypeError, asyncio.CancelledError]
    assert caplog.records == []


async def test_a_group_keeps_errors_raised_before_the_cancel_and_in_clean_up() -> None:
    together = asyncio.Barrier(2)
    never = asyncio.Event()

    async def fail(number: int) -> None:
        await together.wait()
        raise OSError(number)

    async def fail_in_clean_up() -> None:
        try:
            await never.wait()
        finally:
            raise ValueError

    async def would_fail_later() -> None:
        await never.wait()
        raise LookupError

    async def run() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for child in (fail(1), fail(2), fail_in_clean_up(), would_fail_later()):
                group.create_task(child)

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert sorted(type(each).__name__ for each in caught.value.exceptions) == [
        "OSError",
        "OSError",
        "ValueError",
    ]


@asynccontextmanager
async def _faulty(fault: str) -> AsyncIterator[int]:
    """The port of a server that refuses, that closes each connection, or that says nothing."""
    if fault == "refuses":
        yield free_port()
        return
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        if fault == "is silent":
            await ended.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    ended.set()
    server.close()


async def _httpx(port: int) -> None:
    async with httpx.AsyncClient(timeout=0.2) as client:
        await client.get(f"http://127.0.0.1:{port}")


async def _aiohttp(port: int) -> None:
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"http://127.0.0.1:{port}"),  # aiohttp sends a GET twice
    ):
        pass


async def _redis(port: int) -> None:
    once = Retry(NoBackoff(), 0)
    async with redis.asyncio.Redis(port=port, socket_timeout=0.2, retry=once) as client:
        await client.get("price")


@pytest.mark.parametrize(
    ("ask", "named", "os_errors"),
    [
        (_httpx, (httpx.HTTPError,), []),
        (_aiohttp, (aiohttp.ClientError, TimeoutError), ["refuses", "is silent"]),
        (_redis, (redis.exceptions.RedisError,), []),
    ],
)
async def test_each_client_has_base_classes_of_its_own(
    ask: Any, named: tuple[type[Exception], ...], os_errors: list[str]
) -> None:
    found = []
    for fault in ("refuses", "closes", "is silent"):
        async with asyncio.timeout(20), _faulty(fault) as port:
            with pytest.raises(named) as caught:
                await ask(port)
        if isinstance(caught.value, OSError):
            found.append(fault)
    assert found == os_errors
