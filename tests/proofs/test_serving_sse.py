"""A proxy holds back server-sent events and cuts a stream that is idle, unless the app prevents it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.middleware.gzip import GZipMiddleware

from tests.proofs.events import PATIENCE, Stream, reading
from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.hurry import Hurried
from tests.services import Nginx
from tests.services import serving as serve

HURRY = 60  # times are divided by it: nginx's limit of 60 s is 1 s
OLD = ("proxy_pass http://app", "proxy_http_version 1.0")
"""nginx's default before 1.29.7."""
NEW = ("proxy_pass http://app", "proxy_http_version 1.1")
GZIP = (*NEW, "gzip on", "gzip_types text/event-stream", "gzip_min_length 1")
IDLE = (*NEW, f"proxy_read_timeout {60_000 // HURRY}ms")
TELLS = version("uvicorn") != "0.30.0"
"""uvicorn tells that a client has left."""
serving = partial(serve, timeout_graceful_shutdown=5 if TELLS else 0)


class _Queue(asyncio.Queue[Any]):
    """Raises what is put into it and is an error."""

    async def get(self) -> Any:
        if isinstance(item := await super().get(), Exception):
            raise item
        return item


@dataclass
class Changes:
    """What the blocks are given: a queue of changes for each subscriber."""

    queues: list[asyncio.Queue[Any]] = field(default_factory=list)
    left: int = 0

    @asynccontextmanager
    async def subscribe(self, order_id: int) -> AsyncIterator[asyncio.Queue[Any]]:
        queue = _Queue()
        self.queues.append(queue)
        try:
            yield queue
        finally:
            self.queues.remove(queue)
            self.left += 1

    def publish(self, change: Any) -> None:
        for queue in self.queues:
            queue.put_nowait(change)

    async def wait_for(self, condition: Callable[[Changes], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _direct(app: FastAPI) -> AsyncIterator[Stream]:
    """A client of the app's stream, with nothing between."""
    async with (
        asyncio.timeout(4 * PATIENCE),
        serving(app) as served,
        reading(f"{served.url}/orders/7/events") as stream,
    ):
        yield stream


@asynccontextmanager
async def _streamed(
    app: FastAPI, changes: Changes, nginx: Callable[..., Nginx], location: tuple[str, ...]
) -> AsyncIterator[tuple[Stream, Nginx]]:
    """A client of the app's stream, with an nginx between."""
    async with asyncio.timeout(4 * PATIENCE), serving(app) as served:
        with nginx(served.port, location=location) as server:
            async with reading(f"{server.url}/orders/7/events") as stream:
                await changes.wait_for(lambda changes: bool(changes.queues))
                yield stream, server


def _module(block: Block, changes: Changes) -> Any:
    return block.run(subscribe=changes.subscribe)


async def _arrived_of_50(
    block: Block, nginx: Callable[..., Nginx], location: tuple[str, ...]
) -> tuple[list[bool], int]:
    """For each of 50 events, whether it arrived before the next one; and how many did at last."""
    changes = Changes()
    arrived: list[bool] = []
    async with _streamed(_module(block, changes).app, changes, nginx, location) as (stream, _):
        for number in range(50):
            changes.publish({"number": number, "state": "packed"})
            arrived.append(await stream.holds(number + 1, 1 if all(arrived) else 0))
        await stream.holds(1, 0.5)
        texts = [json.loads(event)["number"] for event in stream.events]
        assert texts == list(range(50)[: len(texts)])
    return arrived, len(texts)


@pytest.mark.parametrize("location", [OLD, GZIP], ids=["http-1.0", "gzip"])
async def test_incorrect_is_held_back(
    incorrect: Block, nginx: Callable[..., Nginx], witness: Witness, location: tuple[str, ...]
) -> None:
    assert await _arrived_of_50(incorrect, nginx, location) == ([False] * 50, 0)


@pytest.mark.parametrize("location", [OLD, GZIP], ids=["http-1.0", "gzip"])
async def test_correct_passes_each_event_at_once(
    correct: Block, nginx: Callable[..., Nginx], location: tuple[str, ...]
) -> None:
    assert await _arrived_of_50(correct, nginx, location) == ([True] * 50, 50)


async def test_over_http_1_1_nginx_passes_small_events_as_they_are(
    nginx: Callable[..., Nginx],
) -> None:
    block = RuleFile.load("serving-sse").block(correct=False)
    assert await _arrived_of_50(block, nginx, NEW) == ([True] * 50, 50)


async def _idle(block: Block, nginx: Callable[..., Nginx]) -> tuple[Stream, str]:
    """A stream with nothing to tell for twice the limit of nginx between its two events."""
    changes = Changes()
    module = _module(block, changes)
    if hasattr(module, "asyncio"):
        module.asyncio = Hurried(HURRY)
    async with _streamed(module.app, changes, nginx, IDLE) as (stream, server):
        changes.publish("paid")
        assert await stream.holds(1)
        await asyncio.sleep(2 * 60 / HURRY)
        changes.publish("sent")
        await stream.holds(2, 1)
        return stream, server.log


async def test_incorrect_is_cut_while_it_is_idle(
    incorrect: Block, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    stream, log = await _idle(incorrect, nginx)
    assert stream.events == ['"paid"']
    assert stream.error is not None
    witness.saw(stream.error, log)
    witness.observed(
        incorrect="behind nginx none of 50 events arrived, and a stream that was idle for twice "
        "its limit was cut before the second event"
    )


async def test_correct_stays_open_while_it_is_idle(
    correct: Block, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    stream, log = await _idle(correct, nginx)
    assert stream.events == ['"paid"', '"sent"']
    assert stream.comments >= 2  # at least one in each limit of two
    assert (stream.error, log) == (None, "")
    witness.observed(
        correct="each of 50 events arrived before the next was sent, and the idle stream "
        "delivered its second event"
    )


async def test_correct_sends_what_a_browser_and_a_cache_need(correct: Block) -> None:
    changes = Changes()
    async with _direct(_module(correct, changes).app) as stream:
        await changes.wait_for(lambda changes: bool(changes.queues))
        changes.publish({"note": "two\n\nparagraphs\r\n"})
        assert await stream.holds(1)
    assert json.loads(stream.events[0]) == {"note": "two\n\nparagraphs\r\n"}
    assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store"


async def test_correct_loses_no_event_that_meets_its_timeout(correct: Block) -> None:
    changes = Changes()
    module = _module(correct, changes)
    module.asyncio = sooner = Hurried(15 / 0.002)
    async with _direct(module.app) as stream:
        await changes.wait_for(lambda changes: bool(changes.queues))
        for number in range(200):
            changes.publish(number)
            await asyncio.sleep(0.001 * (1 + number % 4))
        assert await stream.holds(200)
    assert stream.events == [str(number) for number in range(200)]
    assert stream.comments > 5
    assert set(sooner.seconds) == {15}


async def test_correct_ends_a_stream_whose_source_fails(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    changes = Changes()
    module = _module(correct, changes)
    module.asyncio = Hurried(HURRY)
    async with _direct(module.app) as stream:
        await changes.wait_for(lambda _: stream.comments > 0)
        changes.publish(OSError("the broker is gone"))
        await changes.wait_for(lambda _: stream.error is not None)
    assert changes.left == 1


async def test_a_client_that_leaves_is_unsubscribed() -> None:
    changes = Changes()
    module = _module(RuleFile.load("serving-sse").block(correct=True), changes)
    async with asyncio.timeout(2 * PATIENCE), serving(module.app) as served:
        async with reading(f"{served.url}/orders/7/events") as stream:
            await changes.wait_for(lambda changes: bool(changes.queues))
            changes.publish("paid")
            assert await stream.holds(1)
        if TELLS:
            await changes.wait_for(lambda changes: changes.left == 1)
        await asyncio.sleep(0.2)
        assert changes.left == (1 if TELLS else 0)


@pytest.mark.parametrize("inside", [False, True], ids=["dependency", "generator"])
@pytest.mark.skipif(not TELLS, reason="this uvicorn does not tell that a client has left")
async def test_a_client_that_reads_nothing_is_unsubscribed_by_the_dependency(inside: bool) -> None:
    block = RuleFile.load("serving-sse").block(correct=True)
    if inside:
        parts = (
            ("events(queue)", "events(order_id)"),
            ("events(queue: Queue)", "events(order_id: int)"),
            ("stream(queue: Annotated[Queue, Depends(subscription)])", "stream(order_id: int)"),
            (
                "    while True:\n",
                "    async with subscribe(order_id) as queue:\n     while True:\n",
            ),
        )
        code = block.code
        for old, new in parts:
            assert code.count(old) == 1
            code = code.replace(old, new)
        block = replace(block, code=code)
    changes = Changes()
    app = _module(block, changes).app

    @app.middleware("http")  # type: ignore[untyped-decorator]
    async def through(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(2 * PATIENCE), serving(app) as served:
            async with (
                httpx.AsyncClient() as client,
                client.stream("GET", f"{served.url}/orders/7/events"),
            ):
                await changes.wait_for(lambda changes: bool(changes.queues))
                for _ in range(1000):
                    changes.publish("x" * 30_000)
                await asyncio.sleep(0.2)
            if not inside:
                await changes.wait_for(lambda changes: changes.left == 1)
            await asyncio.sleep(0.2)
            assert changes.left == (0 if inside else 1)
    finally:
        gc.enable()
    gc.collect()
    await changes.wait_for(lambda changes: changes.left == 1)


async def test_a_loop_that_asks_ends_where_uvicorn_does_not_tell() -> None:
    app, changes = FastAPI(), Changes()

    async def events(request: Request) -> AsyncIterator[str]:
        async with changes.subscribe(7):
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
                yield ": ping\n\n"

    @app.get("/orders/7/events")
    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(events(request), media_type="text/event-stream")

    async with asyncio.timeout(2 * PATIENCE), serving(app) as served:
        async with reading(f"{served.url}/orders/7/events") as client:
            while not client.comments:
                await asyncio.sleep(0.01)
        await changes.wait_for(lambda changes: changes.left == 1)


async def _sent(*texts: str, media_type: str = "text/event-stream", zipped: bool = False) -> Stream:
    """What a client has of these texts while the stream that sent them is still open."""
    app, sent, end = FastAPI(), asyncio.Event(), asyncio.Event()
    if zipped:
        app.add_middleware(GZipMiddleware)

    async def send() -> AsyncIterator[str]:
        for text in texts:
            yield text
        sent.set()
        await end.wait()

    @app.get("/orders/7/events")
    async def stream() -> StreamingResponse:
        return StreamingResponse(send(), media_type=media_type)

    async with _direct(app) as client:
        await sent.wait()
        await client.holds(1, 0.5)
        end.set()
    return client


async def test_a_newline_in_the_data_ends_it() -> None:
    stream = await _sent("data: one\ntwo\n\nthree\n\n")
    assert stream.events == ["one"]


async def test_gzip_of_starlette_leaves_events_alone() -> None:
    assert (await _sent("data: one\n\n", zipped=True)).events == ["one"]
    other = await _sent("data: one\n\n", media_type="text/plain", zipped=True)
    assert other.events == ([] if version("starlette") == "0.49.3" else ["one"])


async def test_a_timeout_around_anext_ends_a_generator() -> None:
    async def changes() -> AsyncIterator[str]:
        yield "paid"
        await asyncio.sleep(PATIENCE)
        yield "sent"

    source = changes()
    assert await anext(source) == "paid"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(source)
    assert await anext(source, "the end") == "the end"


@pytest.mark.skipif(not find_spec("fastapi.sse"), reason="this FastAPI has no such response")
async def test_fastapis_own_response_sends_headers_and_comments(
    nginx: Callable[..., Nginx], monkeypatch: pytest.MonkeyPatch
) -> None:
    sse: Any = importlib.import_module("fastapi.sse")
    routing: Any = importlib.import_module("fastapi.routing")
    assert routing._PING_INTERVAL == 15
    monkeypatch.setattr(routing, "_PING_INTERVAL", 15 / HURRY)
    app, changes = FastAPI(), Changes()

    @app.get("/orders/7/events", response_class=sse.EventSourceResponse)
    async def stream() -> AsyncIterator[dict[str, str]]:
        async with changes.subscribe(7) as queue:
            while True:
                yield await queue.get()

    async with _streamed(app, changes, nginx, OLD) as (client, _):
        changes.publish({"note": "two\n\nparagraphs"})
        assert await client.holds(1)
        assert json.loads(client.events[0]) == {"note": "two\n\nparagraphs"}
        while not client.comments:
            await asyncio.sleep(0.01)
