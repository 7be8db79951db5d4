"""references/middleware-stack.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from tests.proofs.logs import text_log
from tests.references.harness import (
    LIMIT,
    find,
    run,
    until,
)
from tests.services import serving

ORIGIN = {"Origin": "https://shop.example.com"}


class _Clock:
    """Stands for the module `time`; a route passes seconds."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def _timed(app: Any, clock: _Clock) -> Any:
    """The stack around an app, by this clock."""
    module = run("middleware-stack", "Logging", api=app)
    module.time = clock
    return module


def _api(clock: _Clock | None = None) -> FastAPI:
    clock = clock or _Clock()
    api = FastAPI()

    @api.get("/orders/{number}")
    async def read_order(number: int) -> int:
        logging.getLogger("shop").warning("reading")
        return 100 // number

    @api.post("/orders")
    async def place_order(body: dict[str, str]) -> int:
        return len(body)

    @api.get("/mail")
    async def mail(tasks: BackgroundTasks) -> None:
        tasks.add_task(send_mail)

    async def send_mail() -> None:
        clock.wait(60)
        logging.getLogger("shop").warning("sent")

    @api.get("/export")
    async def export() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            clock.wait(0.5)
            logging.getLogger("shop").warning("last chunk")
            yield b"last"

        clock.wait(0.25)
        return StreamingResponse(chunks())

    return api


@asynccontextmanager
async def _client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url, headers=ORIGIN, timeout=LIMIT) as client,
    ):
        yield client


def _messages(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name in names]


async def test_every_answer_passes_the_whole_stack_that_of_an_unhandled_error_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    module = run("middleware-stack", "Logging", api=_api())
    async with _client(module.app) as client:
        answers = [await client.get(path) for path in ("/orders/1", "/nothing", "/orders/0")]
    assert [answer.status_code for answer in answers] == [200, 404, 500]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert re.fullmatch(r"app;dur=\d+\.\d", answer.headers["Server-Timing"])
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 3
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in _messages(caplog, "access")]
    assert lines == ["GET /orders/1 200", "GET /nothing 404", "GET /orders/0 500"]


@pytest.mark.parametrize("quoted", [True, False])
async def test_a_path_with_a_line_break_stays_in_its_line_only_by_quote(
    quoted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    block = find("middleware-stack", "Logging")
    if not quoted:
        decoded = block.code.replace('quote(scope["path"])', 'scope["path"]')
        assert decoded != block.code
        block = replace(block, code=decoded)
    ordinary = "/orders/7/a-b_c.d~e"
    forged = "/x%0AINFO%20access%20GET%20/admin%20200"
    async with _client(block.run(api=_api()).app) as client:
        for path in (ordinary, forged):
            await client.get(path)
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in text_log(caplog, "access")]
    one, two = [f"GET {forged} 404"], ["GET /x", "GET /admin 200 404"]
    expected = [f"GET {ordinary} 404", *(one if quoted else two)]
    assert lines == [f"INFO access {each}" for each in expected]


async def test_the_lifespan_of_the_app_runs_inside_of_the_stack() -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ran.append("started")
        yield
        ran.append("ended")

    module = run("middleware-stack", "Logging", api=FastAPI(lifespan=lifespan))
    async with serving(module.app):
        assert ran == ["started"]
    assert ran == ["started", "ended"]


async def test_after_a_request_its_id_is_gone() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    transport = httpx.ASGITransport(module.app)  # calls the app in the task of the test
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        assert (await client.get("/orders/1")).headers["X-Request-ID"]
    assert module.request_id.get() == "-"


@pytest.mark.parametrize("caught", [False, True])
async def test_after_an_unhandled_error_the_connection_ends_unless_a_layer_catches_the_error(
    caught: bool,
) -> None:
    module = run("middleware-stack", "Logging", api=_api())

    async def around(scope: Any, receive: Any, send: Any) -> None:
        try:
            await module.app(scope, receive, send)
        except ZeroDivisionError:
            if not caught:
                raise

    async with serving(around) as served, asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            b"GET /orders/0 HTTP/1.1\r\nHost: shop\r\n\r\n"
            b"GET /orders/1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
        )
        received = (await reader.read()).lower()
        writer.close()
    first, rest = received.split(b"\r\n\r\n", 1)
    assert first.startswith(b"http/1.1 500")
    assert b"connection:" not in first
    assert (b"http/1.1 200" in rest) is caught


async def test_an_app_answers_an_unhandled_error_outside_of_its_own_list() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    api = _api()
    api.add_middleware(module.RequestID)
    async with _client(api) as client:
        assert "X-Request-ID" in (await client.get("/orders/1")).headers
        failed = await client.get("/orders/0")
    assert failed.status_code == 500
    assert "X-Request-ID" not in failed.headers


async def test_an_id_from_outside_is_taken_only_where_it_matches() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    sent = ["0123456789abcdef", "short", "a" * 65, "has spaces and more", "日本語日本語日本語"]
    async with _client(module.app) as client:
        received = [
            (await client.get("/orders/1", headers={b"X-Request-ID": each.encode()})).headers[
                "X-Request-ID"
            ]
            for each in sent
        ]
    assert received[0] == sent[0]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in received[1:])


async def test_the_access_line_comes_after_the_last_byte_with_the_time_of_the_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    clock = _Clock()
    clock.wait(1000)
    async with _client(_timed(_api(clock), clock).app) as client:
        answer = await client.get("/export")
        await until(lambda: _messages(caplog, "access"))
    assert _messages(caplog, "access", "shop") == ["last chunk", "GET /export 200 750.0 ms"]
    assert answer.headers["Server-Timing"] == "app;dur=250.0"


async def test_the_time_in_the_access_line_is_without_background_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    clock = _Clock()
    async with _client(_timed(_api(clock), clock).app) as client:
        await client.get("/mail")
        await until(lambda: _messages(caplog, "access"))
    # The line comes after the task.
    assert _messages(caplog, "access", "shop") == ["sent", "GET /mail 200 0.0 ms"]


async def test_every_log_line_has_the_id_of_its_request() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    log = run("middleware-stack", "WithRequestID", request_id=module.request_id)
    written = io.StringIO()
    log.handler.setStream(written)
    logger, access = logging.getLogger(), logging.getLogger("access")
    access.setLevel(logging.INFO)
    logger.addHandler(log.handler)
    try:
        async with _client(module.app) as client:
            given = (await client.get("/orders/1")).headers["X-Request-ID"]
        logging.getLogger("shop").warning("outside")
    finally:
        logger.removeHandler(log.handler)
        access.setLevel(logging.NOTSET)
    lines = [line for line in written.getvalue().splitlines() if "uvicorn" not in line]
    assert lines[0] == f"WARNING {given} shop reading"
    assert lines[1].startswith(f"INFO {given} access GET /orders/1 200")
    assert lines[2] == "WARNING - shop outside"


def test_a_filter_on_a_logger_does_not_see_what_other_loggers_log() -> None:
    seen: list[str] = []

    class Seen(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(record.getMessage())
            return True

    parent, child = logging.getLogger("references"), logging.getLogger("references.child")
    filtering = Seen()
    parent.addFilter(filtering)
    try:
        child.warning("from the child")
        parent.warning("from itself")
    finally:
        parent.removeFilter(filtering)
    assert seen == ["from itself"]


async def _chunks(*sizes: int) -> AsyncIterator[bytes]:
    yield b'{"a": "'
    for size in sizes:
        yield b"b" * size
    yield b'"}'


async def test_a_layer_that_refuses_stands_inside_of_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    limit = run("middleware-stack", "LimitBody").LimitBody(_api(), largest=100)
    module = run("middleware-stack", "Logging", api=limit)
    async with _client(module.app) as client:
        client.headers["Content-Type"] = "application/json"
        bodies: list[Any] = [b'{"a": "%s"}' % (b"b" * size) for size in (1, 100, 91, 92)]
        bodies[1:1] = [_chunks(80, 10)]
        bodies[3:3] = [_chunks(80, 20)]
        answers = [await client.post("/orders", content=body) for body in bodies]
    statuses = [200, 200, 413, 413, 200, 413]
    assert [each.status_code for each in answers] == statuses
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert "X-Request-ID" in answer.headers
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in _messages(caplog, "access")]
    assert lines == [f"POST /orders {status}" for status in statuses]
    assert "Too Large" in answers[2].text


async def test_the_limit_is_a_million_bytes_also_of_a_body_without_a_length_as_over_http_2() -> (
    None
):
    limit = run("middleware-stack", "LimitBody").LimitBody
    read = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        while (message := await receive()).get("more_body"):
            read += len(message.get("body", b""))

    # A message may have no body.
    parts = iter([{}, *({"body": b"x" * each} for each in (400_000, 600_000, 1))])

    async def receive() -> Any:
        return {"type": "http.request", "more_body": True, **next(parts)}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "http_version": "2", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(HTTPException) as refused:
        await limit(app)(scope, receive, send)
    assert (refused.value.status_code, read) == (413, 1_000_000)


@pytest.mark.skipif(version("fastapi") == "0.121.0", reason="it has no max_body_size")
async def test_the_newest_fastapi_has_a_limit_of_its_own() -> None:
    api = FastAPI(max_body_size=100)
    api.post("/")(_length)
    async with _client(api) as client:
        contents: list[Any] = [b"x" * 100, b"x" * 101, _chunks(80, 20)]
        answers = [await client.post("/", content=content) for content in contents]
    assert [each.status_code for each in answers] == [200, 413, 413]


async def _length(request: Request) -> int:
    return len(await request.body())


async def test_a_request_that_is_cancelled_has_status_0(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "access")
    begun = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    module = _timed(hang, _Clock())

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "GET", "path": "/orders/1", "headers": []}
    asking = asyncio.create_task(module.app(scope, receive, send))
    await asyncio.wait_for(begun.wait(), LIMIT)
    asking.cancel()
    await asyncio.wait([asking])
    [line] = _messages(caplog, "access")
    assert line == "GET /orders/1 0 0.0 ms"


async def test_scripts_may_send_and_read_the_headers_of_the_stack() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    asked = {"Access-Control-Request-Headers": "authorization, content-type, x-request-id"}
    methods = ["GET", "POST", "DELETE", "PUT"]
    async with _client(module.app) as client:
        granted = [
            await client.options(
                "/orders/1", headers={**asked, "Access-Control-Request-Method": method}
            )
            for method in methods
        ]
        exposed = (await client.get("/orders/1")).headers["Access-Control-Expose-Headers"]
    assert [answer.status_code for answer in granted] == [200, 200, 200, 400]
    assert exposed == "X-Request-ID, Server-Timing"


async def test_an_http_exception_that_a_layer_raises_is_a_500() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise HTTPException(413)
        await _api()(scope, receive, send)

    module = run("middleware-stack", "Logging", api=refuse)
    async with _client(module.app) as client:
        assert (await client.get("/orders/1")).status_code == 500
