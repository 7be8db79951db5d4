"""A line of requests for the threads has no end; with a bounded wait, later requests are served."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.hurry import Hurried
from tests.services import serving
from tests.services.process import HOST

THREADS = 40  # of AnyIO
FEWER = 10  # threads, and places for them, are divided by it
HURRY = 2  # times are divided by it
WAITS = 2 / HURRY  # seconds for which a client waits
BURST, LATER = 100, 2
BROKEN = -1  # the report that cannot be rendered


def _work() -> None:
    time.sleep(0.2)


@dataclass
class _Reports:
    """Renders a report after `wait`."""

    rendered: int = 0
    wait: Callable[[], object] = _work
    lock: threading.Lock = field(default_factory=threading.Lock)

    def render(self, report_id: int) -> bytes:
        if report_id == BROKEN:
            raise OSError("no such report")
        self.wait()
        with self.lock:
            self.rendered += 1
        return b"x"


def _module(block: Block, reports: _Reports) -> Any:
    module = block.run(render=reports.render)
    if hasattr(module, "places"):
        module.asyncio = Hurried(HURRY)
        assert module.places._value < THREADS
        module.places = asyncio.Semaphore(module.places._value // FEWER)
    return module


@asynccontextmanager
async def _served(app: FastAPI, **options: Any) -> AsyncIterator[int]:
    """The port of the app, which has few threads; its requests are not waited for in the end."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    assert limiter.total_tokens == THREADS
    limiter.total_tokens = THREADS // FEWER
    try:
        async with serving(app, timeout_graceful_shutdown=0, **options) as served:
            yield served.port
    finally:
        limiter.total_tokens = THREADS


@asynccontextmanager
async def _asked(port: int, path: str) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
        yield reader
    finally:
        writer.close()


async def _get(port: int, path: str) -> int:
    """The status, or 0 where the client gives up."""
    try:
        async with asyncio.timeout(WAITS), _asked(port, path) as answer:
            status = int((await answer.readline()).split()[1])
            body = (await answer.read()).rpartition(b"\r\n")[2]
            assert body == b"7" or not (status == 200 and path.startswith("/prices"))
            return status
    except TimeoutError:
        return 0


@dataclass
class _Seen:
    burst: Counter[int]
    meanwhile: int
    """The status of a price during the burst."""
    later: list[int]
    """Those of reports and prices after it."""
    in_vain: int
    """Reports that were rendered while nobody waited for one."""


async def _burst(block: Block) -> _Seen:
    reports = _Reports()
    async with asyncio.timeout(30), _served(_module(block, reports).app) as port:
        asking = [asyncio.create_task(_get(port, f"/reports/{i}")) for i in range(BURST)]
        await asyncio.wait(asking, timeout=WAITS / 4)
        meanwhile = await _get(port, "/prices/1")
        burst = Counter(await asyncio.gather(*asking))
        before = reports.rendered
        await asyncio.sleep(0.5)
        in_vain = reports.rendered - before
        later = []
        for number in range(LATER):
            paths = f"/reports/{number}", f"/prices/{number}"
            later += await asyncio.gather(*(_get(port, path) for path in paths))
    return _Seen(burst, meanwhile, later, in_vain)


async def test_incorrect_serves_nobody_after_the_burst(incorrect: Block, witness: Witness) -> None:
    seen = await _burst(incorrect)
    assert set(seen.burst) == {0, 200}
    assert seen.burst[200] < BURST / 2
    assert seen.meanwhile == 0
    assert seen.in_vain > 4
    assert seen.later == [0] * 2 * LATER
    witness.observed(incorrect="after a burst of 100 requests, 0 of 4 were answered in time")


async def test_correct_refuses_and_goes_on(correct: Block, witness: Witness) -> None:
    seen = await _burst(correct)
    assert seen.burst[200] >= 3
    assert seen.burst[503] >= 5  # on a slow machine many give up before they are told
    assert seen.meanwhile == 200
    assert seen.in_vain < 4
    assert seen.later == [200] * 2 * LATER
    witness.observed(correct="after a burst of 100 requests, 4 of 4 were answered")


async def _asks(module: Any, *report_ids: int) -> list[httpx.Response]:
    """The answers to these requests, sent at once, in this process."""
    transport = httpx.ASGITransport(module.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await asyncio.gather(*(client.get(f"/reports/{i}") for i in report_ids))


async def test_correct_says_when_to_come_back(correct: Block) -> None:
    assert correct.run(render=_Reports().render).places._value == 30
    module = _module(correct, _Reports())
    for _ in range(3):
        await module.places.acquire()
    [refused] = await _asks(module, 1)
    assert (refused.status_code, refused.json()) == (503, {"detail": "Too many reports"})
    assert refused.headers["Retry-After"] == "5"
    assert module.asyncio.seconds == [1]
    module.places.release()
    [answer] = await _asks(module, 1)
    assert (answer.status_code, answer.content) == (200, b"x")
    assert answer.headers["Content-Type"] == "application/pdf"


async def test_correct_gives_every_place_back(correct: Block) -> None:
    reports = _Reports()
    module = _module(correct, reports)
    module.asyncio = Hurried(1 / 0.3)
    answers = await _asks(module, *[1, BROKEN] * 15)
    assert {each.status_code for each in answers} == {200, 500, 503}
    assert module.places._value == 3
    gone = [asyncio.create_task(_asks(module, 1)) for _ in range(9)]
    await asyncio.sleep(0.05)
    for each in gone:
        each.cancel()
    await asyncio.wait(gone)
    assert [each.cancelled() for each in gone] == [True] * 9
    assert module.places._value == 3


async def test_correct_answers_500_where_the_fault_is_its_own(correct: Block) -> None:
    class Broken(asyncio.Semaphore):
        async def acquire(self) -> Literal[True]:
            raise RuntimeError("bound to a different event loop")

    module = _module(correct, _Reports())
    module.places = Broken()
    assert (await _asks(module, 1))[0].status_code == 500


async def test_correct_serves_prices_while_each_report_hangs(correct: Block) -> None:
    go_on = threading.Event()
    reports = _Reports(wait=lambda: go_on.wait(10))
    async with asyncio.timeout(10), _served(_module(correct, reports).app) as port:
        hanging = [asyncio.create_task(_get(port, "/reports/1")) for _ in range(5)]
        statuses = [*await asyncio.gather(*hanging), await _get(port, "/reports/1")]
        assert Counter(statuses) == {0: 3, 503: 3}
        assert await _get(port, "/prices/1") == 200
        go_on.set()


@pytest.mark.parametrize("scope", [None, "function"])
@pytest.mark.parametrize("listed", [True, False], ids=["list", "parameter"])
async def test_background_tasks_hold_the_place_but_in_function_scope(
    scope: Any, listed: bool
) -> None:
    module = _module(RuleFile.load("serving-overload").block(correct=True), _Reports())
    free: list[int] = []
    admitted = Depends(module.admit, scope=scope)

    async def mailed(tasks: BackgroundTasks, _: Any = None if listed else admitted) -> None:
        tasks.add_task(lambda: free.append(module.places._value))

    module.app.get("/mailed", dependencies=[admitted] if listed else [])(mailed)
    transport = httpx.ASGITransport(module.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        assert (await client.get("/mailed")).status_code == 200
    heeded = scope and not (listed and version("fastapi") == "0.121.0")
    assert free == [3 if heeded else 2]
    assert module.places._value == 3


async def test_uvicorns_own_limit_counts_idle_connections(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()

    @app.get("/live")
    async def live() -> None:
        pass

    async with (
        asyncio.timeout(10),
        serving(app, limit_concurrency=3) as served,
        AsyncExitStack() as stack,
    ):
        for expected in (200, 200, 503):
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=served.url))
            answer = await client.get("/live")
            assert answer.status_code == expected
    assert answer.text == "Service Unavailable"
    assert "Retry-After" not in answer.headers
    witness.saw(*caplog.messages)
