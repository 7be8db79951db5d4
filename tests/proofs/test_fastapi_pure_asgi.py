"""Only pure ASGI middleware sees the end of a body and what the endpoint set in the context."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.logs import text_log
from tests.services import serving

STREAM = 0.3  # seconds
ORDINARY = "/orders/7/a-b_c.d~e"
FORGED = "/x%0AINFO%20access%20/admin%20200%20user%3Droot"


@dataclass
class Seen:
    """What one request left behind: who the log says it was, and in which order things ended."""

    user: str = ""
    milliseconds: float = 0.0
    actual: float = 0.0
    longest: float = 0.0  # milliseconds from before the request to the log line
    events: list[str] = field(default_factory=list)


class _Listener(logging.Handler):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen
        self._started = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        match = re.fullmatch(r"/\S+ 200 user=(\S+) ([\d.]+) ms", record.getMessage())
        assert match
        self._seen.user, self._seen.milliseconds = match[1], float(match[2])
        self._seen.events.append("log")
        self._seen.longest = (time.perf_counter() - self._started) * 1000


async def _request(block: Block, path: str) -> Seen:
    """Ask a real server once for `path`, through the block's middleware."""
    module = block.run()
    seen = Seen()
    app = FastAPI()
    app.add_middleware(module.AccessLogMiddleware)

    async def body() -> AsyncIterator[str]:
        started = time.perf_counter()
        yield "first"
        await asyncio.sleep(STREAM)
        seen.actual = (time.perf_counter() - started) * 1000
        seen.events.append("last chunk")
        yield "last"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        module.user.set("ada")
        return StreamingResponse(body())

    @app.get("/sync")
    def sync() -> str:
        module.user.set("ada")
        return "done"

    def set_user() -> None:
        module.user.set("ada")

    async def set_user_in_the_task() -> None:
        module.user.set("ada")

    @app.get("/dependency", dependencies=[Depends(set_user)])
    async def dependency() -> str:
        return "done"

    @app.get("/async-dependency", dependencies=[Depends(set_user_in_the_task)])
    async def async_dependency() -> str:
        return "done"

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        module.user.set("ada")
        tasks.add_task(seen.events.append, "background task")
        return "done"

    listener = _Listener(seen)
    module.logger.addHandler(listener)
    try:
        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.get(path)).status_code == 200
    finally:
        module.logger.removeHandler(listener)
    return seen


async def test_incorrect_logs_a_stream_before_its_end_and_without_its_user(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    tries: list[Seen] = []
    # A machine under load may delay the start of one stream, but not of ten.
    while len(tries) < 10 and not any(seen.milliseconds * 3 < seen.actual for seen in tries):
        tries.append(await _request(incorrect, "/stream"))
        assert tries[-1].events == ["log", "last chunk"]
        assert tries[-1].user == "-"
    assert any(seen.milliseconds * 3 < seen.actual for seen in tries)
    witness.observed(
        incorrect="a 0.3 s stream logged before its last chunk, with less than a third of its time "
        "and without the user; a layer took more than 10 times the processor time"
    )


async def test_correct_logs_a_stream_after_its_end_and_with_its_user(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    seen = await _request(correct, "/stream")
    assert seen.events == ["last chunk", "log"]
    assert seen.actual <= seen.milliseconds <= seen.longest
    assert seen.user == "ada"
    witness.observed(correct="logged after the last chunk, with its whole time and the user")


async def _nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_: Message) -> None:
    pass


async def _costs(*middlewares: Any) -> list[float]:
    """Seconds of processor time that a request takes in ten layers of each: the least of 40."""
    apps: list[ASGIApp] = [_nothing] * len(middlewares)
    for _ in range(10):
        apps = [middleware(app) for middleware, app in zip(middlewares, apps, strict=True)]
    least = [float("inf")] * len(apps)
    for _ in range(40):
        for number, app in enumerate(apps):
            started = time.thread_time()
            await app(
                {"type": "http", "method": "GET", "path": "/", "headers": []}, _receive, _send
            )
            least[number] = min(least[number], time.thread_time() - started)
    return least


async def test_a_layer_of_incorrect_costs_more_than_10_times_one_of_correct(
    incorrect: Block, correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "access")
    ten = await _costs(*(block.run().AccessLogMiddleware for block in (incorrect, correct)))
    assert ten[0] > 10 * ten[1]


async def _lines(block: Block, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a text log holds after a request for each of the two paths, without the times."""
    caplog.clear()
    app = FastAPI()
    app.add_middleware(block.run().AccessLogMiddleware)
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        for path in (ORDINARY, FORGED):
            await client.get(path)
    return [re.sub(r" [\d.]+ ms$", "", line) for line in text_log(caplog, "access")]


async def test_correct_keeps_a_path_with_a_line_break_in_its_line(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    ordinary = f"INFO access {ORDINARY} 404 user=-"
    assert await _lines(correct, caplog) == [ordinary, f"INFO access {FORGED} 404 user=-"]
    decoded = correct.code.replace('quote(scope["path"])', 'scope["path"]')
    assert await _lines(replace(correct, code=decoded), caplog) == [
        ordinary,
        "INFO access /x",
        "INFO access /admin 200 user=root 404 user=-",
    ]


async def test_correct_is_done_only_after_background_tasks(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    seen = await _request(correct, "/background")
    assert seen.events == ["background task", "log"]
    assert seen.user == "ada"


async def test_the_last_body_message_comes_before_background_tasks() -> None:
    events: list[str] = []
    app = FastAPI()

    @app.get("/")
    async def read(tasks: BackgroundTasks) -> str:
        tasks.add_task(events.append, "background task")
        return "done"

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_see(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                events.append("last body")

        await app(scope, receive, send_and_see)

    async with serving(observed) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/")).status_code == 200
    assert events == ["last body", "background task"]


@pytest.mark.parametrize("path", ["/sync", "/dependency"])
async def test_what_a_sync_endpoint_or_dependency_sets_is_lost_in_both(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    rule = RuleFile.load("fastapi-pure-asgi")
    users = [(await _request(rule.block(correct=correct), path)).user for correct in (False, True)]
    assert users == ["-", "-"]


async def test_what_an_async_dependency_sets_is_seen_by_correct(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    assert (await _request(correct, "/async-dependency")).user == "ada"


def _served(block: Block) -> tuple[Any, Any]:
    """The block's module, and an app in its middleware, which answers, fails, breaks and hangs."""
    module = block.run()
    app = FastAPI()
    app.state.begun = asyncio.Event()

    @app.get("/ada")
    async def ada() -> None:
        module.user.set("ada")

    @app.get("/nobody")
    async def nobody() -> None: ...

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError

    @app.get("/break")
    async def broken() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "first"
            raise ValueError

        return StreamingResponse(body())

    @app.get("/hang")
    async def forever() -> None:
        app.state.begun.set()
        await asyncio.Event().wait()

    app.add_middleware(module.AccessLogMiddleware)
    return module, app


def _lines_without_times(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [re.sub(r" [\d.]+ ms$", "", line) for line in text_log(caplog, "access")]


async def test_correct_logs_500_for_an_error_and_the_status_sent_for_a_broken_stream(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    _, app = _served(correct)
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/fail")).status_code == 500
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/break")
    assert _lines_without_times(caplog) == [
        "INFO access /fail 500 user=-",
        "INFO access /break 200 user=-",
    ]
    assert caplog.text.count("ValueError") >= 2  # the errors go on to the server's log


async def test_correct_logs_no_status_for_a_request_that_the_server_cancels(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    _, app = _served(correct)
    async with (
        httpx.AsyncClient() as client,
        serving(app, timeout_graceful_shutdown=0) as served,
    ):
        asking = asyncio.create_task(client.get(f"{served.url}/hang"))
        await asyncio.wait_for(app.state.begun.wait(), 10)
    await asyncio.wait([asking])
    assert _lines_without_times(caplog) == ["INFO access /hang 0 user=-"]


async def test_correct_passes_the_lifespan_on_and_leaves_no_user_to_the_next_request(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.append("start")
        yield
        events.append("stop")

    module, app = _served(correct)
    async with serving(module.AccessLogMiddleware(FastAPI(lifespan=lifespan))):
        assert events == ["start"]
    assert events == ["start", "stop"]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/ada", "/nobody"):
            await client.get(path)
    with pytest.raises(LookupError):
        module.user.get()
    lines = ["INFO access /ada 200 user=ada", "INFO access /nobody 200 user=-"]
    assert _lines_without_times(caplog) == lines


async def test_the_decorator_is_base_http_middleware_and_what_it_sets_reaches_the_endpoint() -> (
    None
):
    tenant: ContextVar[str] = ContextVar("tenant", default="-")
    app = FastAPI()

    @app.middleware("http")
    async def set_tenant(request: Request, call_next: RequestResponseEndpoint) -> Response:
        tenant.set("acme")
        return await call_next(request)

    @app.get("/")
    async def read() -> str:
        return tenant.get()

    layers: list[Any] = list(app.user_middleware)
    assert [layer.cls for layer in layers] == [BaseHTTPMiddleware]
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/")).json() == "acme"
