"""A line of requests for the threads has no end; with a bounded wait, later requests are served."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import httpx
from fastapi import FastAPI

from tests.proofs.harness import Block, Witness
from tests.services import serving

THREADS = 40  # of AnyIO
FEWER = 10  # threads, and places for them, are divided by it
HURRY = 4  # times are divided by it
WAITS = 2 / HURRY  # seconds for which a client waits
BURST, LATER = 160, 5


@dataclass
class _Reports:
    """Renders a report in 0.1 s; `size` is that of a report."""

    size: int = 1
    rendered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def render(self, report_id: int) -> bytes:
        time.sleep(0.1)
        with self.lock:
            self.rendered += 1
        return b"x" * self.size


class _Scaled:
    """`asyncio` for a block: its timeouts in a hurry, its semaphores for fewer threads."""

    def __init__(self) -> None:
        self.given: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def timeout(self, seconds: float) -> Any:
        self.given.append(seconds)
        return asyncio.timeout(seconds / HURRY)


def _module(block: Block, reports: _Reports) -> Any:
    module = block.run(render=reports.render)
    if hasattr(module, "places"):
        module.asyncio = _Scaled()
        assert module.places._value < THREADS
        module.places = asyncio.Semaphore(module.places._value // FEWER)
    return module


@asynccontextmanager
async def _client(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, which has few threads; the app is not waited for in the end."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    assert limiter.total_tokens == THREADS
    limiter.total_tokens = THREADS // FEWER
    many = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        async with (
            serving(app, timeout_graceful_shutdown=0, **options) as served,
            httpx.AsyncClient(base_url=served.url, limits=many, timeout=WAITS) as client,
        ):
            yield client
    finally:
        limiter.total_tokens = THREADS


async def _get(client: httpx.AsyncClient, path: str) -> int:
    """The status, or 0 where the client gives up."""
    try:
        async with asyncio.timeout(WAITS):
            return (await client.get(path)).status_code
    except (TimeoutError, httpx.TimeoutException):
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
    async with asyncio.timeout(30), _client(_module(block, reports).app) as client:
        asking = [asyncio.create_task(_get(client, f"/reports/{i}")) for i in range(BURST)]
        await asyncio.wait(asking, timeout=WAITS / 4)
        meanwhile = await _get(client, "/prices/1")
        burst = Counter(await asyncio.gather(*asking))
        before = reports.rendered
        await asyncio.sleep(0.3)
        in_vain = reports.rendered - before
        later = []
        for number in range(LATER):
            paths = f"/reports/{number}", f"/prices/{number}"
            later += await asyncio.gather(*(_get(client, path) for path in paths))
    return _Seen(burst, meanwhile, later, in_vain)


async def test_incorrect_serves_nobody_after_the_burst(incorrect: Block, witness: Witness) -> None:
    seen = await _burst(incorrect)
    assert set(seen.burst) == {0, 200}
    assert seen.burst[200] < BURST / 2
    assert seen.meanwhile == 0
    assert seen.in_vain >= 4
    assert seen.later == [0] * 2 * LATER
    witness.observed(incorrect="after a burst of 160 requests, 0 of 10 were answered in time")


async def test_correct_refuses_and_goes_on(correct: Block, witness: Witness) -> None:
    seen = await _burst(correct)
    assert seen.burst[200] >= 3
    assert seen.burst[503] > BURST / 2
    assert seen.meanwhile == 200
    assert seen.in_vain == 0
    assert seen.later == [200] * 2 * LATER
    witness.observed(correct="after a burst of 160 requests, 10 of 10 were answered")
