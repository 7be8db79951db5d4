"""A thread that starts loops of its own cannot use what belongs to the loop of the service."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI, Request

from tests.proofs.harness import Block, Witness
from tests.services import serving

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


RATES = {"CHF": 2.5, "USD": 0.5, "EUR": 1.0}


class Rates:
    """A real service that answers one rate for each currency, and its client."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.connections: set[Any] = set()

        @self.app.get("/rates/{currency}")
        async def rate(currency: str, request: Request) -> float:
            self.connections.add(request.client)
            return RATES[currency]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            serving(self.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
        ):
            yield client


def render(number: int, rate: Callable[[str], float]) -> str:
    """The synchronous library."""
    return f"{number}: {rate('CHF') + rate('USD')}"


async def _invoices(block: Block, *, used_before: bool) -> tuple[list[int], set[str], Rates]:
    """The statuses of three invoices, and their texts."""
    rates = Rates()
    async with rates.opened() as client:
        if used_before:
            await client.get("/rates/EUR")
        module = block.run(client=client, render=render)
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as caller,
        ):
            answers = [await caller.get(f"/invoices/{number}") for number in (7, 7, 7)]
    texts = {answer.text for answer in answers}
    return [answer.status_code for answer in answers], texts, rates


@pytest.fixture(autouse=True)
def _close_what_closed_loops_left_open() -> Iterator[None]:
    """Close the sockets of the loops of Incorrect, which would warn wherever they are collected."""
    yield
    gc.collect()  # coroutines that never ran warn here
    for each in gc.get_objects():
        if type(each).__name__ != "_SelectorSocketTransport" or each._loop is None:
            continue
        if each._loop.is_closed() and each._sock is not None:
            each._sock.close()
            each._sock = None


@pytest.mark.parametrize(
    ("used_before", "message"),
    [(False, "Event loop is closed"), (True, "is bound to a different event loop")],
)
async def test_incorrect_fails_with_every_invoice(
    used_before: bool,
    message: str,
    incorrect: Block,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    statuses, _, _ = await _invoices(incorrect, used_before=used_before)
    assert statuses == [500] * 3
    assert message in caplog.text
    witness.saw(caplog.text)
    witness.observed(incorrect="3 invoices with 2 rates each: 500 three times")


@pytest.mark.parametrize("used_before", [False, True])
async def test_correct_renders_every_invoice(
    used_before: bool, correct: Block, witness: Witness
) -> None:
    statuses, texts, rates = await _invoices(correct, used_before=used_before)
    assert (statuses, texts) == ([200] * 3, {'"7: 3.0"'})
    assert len(rates.connections) == 1
    witness.observed(correct="3 invoices with 2 rates each: 200 three times, over one connection")


async def test_correct_raises_in_the_thread_what_the_service_answers(correct: Block) -> None:
    async with Rates().opened() as client:
        client.base_url = client.base_url.join("/nowhere/")
        module = correct.run(client=client, render=render)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await anyio.to_thread.run_sync(module.rate, "CHF")


async def _answered() -> str:
    return "answer"


def _by_run() -> str:
    return asyncio.run(_answered())


def _by_get_event_loop() -> str:
    return asyncio.get_event_loop().run_until_complete(_answered())


def _by_a_new_loop() -> str:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_answered())
    finally:
        loop.close()


def _by_from_thread() -> str:
    return anyio.from_thread.run(_answered)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_by_run, "asyncio.run() cannot be called from a running event loop"),
        (_by_get_event_loop, "This event loop is already running"),
        (_by_a_new_loop, "Cannot run the event loop while another loop is running"),
        (_by_from_thread, "Not running inside an AnyIO worker thread"),
    ],
)
async def test_in_the_thread_of_the_loop_each_way_raises(
    call: Callable[[], str], message: str, witness: Witness
) -> None:
    with pytest.raises(RuntimeError) as raised:
        call()
    assert str(raised.value).startswith(message)
    witness.saw(raised.value, "RuntimeWarning: coroutine '_answered' was never awaited")


async def test_in_a_thread_there_is_no_current_loop(witness: Witness) -> None:
    for run in (anyio.to_thread.run_sync, asyncio.to_thread):
        with pytest.raises(RuntimeError, match="There is no current event loop") as raised:
            await run(_by_get_event_loop)
        witness.saw(raised.value)


async def test_in_an_async_route_the_library_runs_in_a_thread() -> None:
    async with Rates().opened() as client:

        def rate(currency: str) -> float:
            return float(anyio.from_thread.run(client.get, f"/rates/{currency}").json())

        assert await anyio.to_thread.run_sync(render, 7, rate) == "7: 3.0"


async def test_other_threads_are_given_the_loop() -> None:
    loop = asyncio.get_running_loop()
    async with Rates().opened() as client:

        def rate(currency: str) -> float:
            asked = asyncio.run_coroutine_threadsafe(client.get(f"/rates/{currency}"), loop)
            return float(asked.result(20).json())

        assert await asyncio.to_thread(render, 7, rate) == "7: 3.0"
        with pytest.raises(RuntimeError, match="Not running inside an AnyIO worker thread"):
            await asyncio.to_thread(_by_from_thread)


async def test_in_the_thread_of_the_loop_the_result_never_comes() -> None:
    asked = asyncio.run_coroutine_threadsafe(_answered(), asyncio.get_running_loop())
    with pytest.raises(TimeoutError):
        asked.result(0.2)
    assert await asyncio.wrap_future(asked) == "answer"


async def test_a_program_without_a_loop_has_one_portal() -> None:
    def program(url: str) -> str:
        with anyio.from_thread.start_blocking_portal() as portal:
            client = portal.call(lambda: _made(url))

            def rate(currency: str) -> float:
                return float(portal.call(client.get, f"/rates/{currency}").json())

            try:
                return render(7, rate) + render(8, rate)
            finally:
                portal.call(client.aclose)

    async with serving(Rates().app) as served:
        assert await asyncio.to_thread(program, served.url) == "7: 3.08: 3.0"


async def _made(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url)


async def test_coroutines_that_need_a_thread_wait_for_those_that_wait() -> None:
    app = FastAPI()

    async def needs_a_thread() -> str:
        return await anyio.to_thread.run_sync(lambda: "answer")

    @app.get("/")
    def route() -> str:
        return anyio.from_thread.run(needs_a_thread)

    limiter = anyio.to_thread.current_default_thread_limiter()
    before = limiter.total_tokens
    limiter.total_tokens = 1
    try:
        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            asked = asyncio.create_task(client.get("/", timeout=20))
            try:
                async with asyncio.timeout(10):
                    while not limiter.statistics().tasks_waiting:
                        await asyncio.sleep(0.01)
                await asyncio.wait([asked], timeout=0.2)
                assert (asked.done(), limiter.statistics().borrowed_tokens) == (False, 1)
            finally:
                limiter.total_tokens = before
            assert (await asked).json() == "answer"
    finally:
        limiter.total_tokens = before
    assert before == 40
