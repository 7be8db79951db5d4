"""The body comes once: a middleware that reads it takes it from the route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, Depends, FastAPI, Form, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.proofs.harness import Block, Witness
from tests.proofs.logs import text_log
from tests.services import serving

PATIENCE = 0.5  # seconds that a client waits for what is not answered
JSON = b'{"number": 7}'
AS_JSON = {"Content-Type": "application/json"}
HALVES = (b"first half, ", b"second half")
CallNext = Callable[[Request], Awaitable[Response]]


class Service:
    """Routes that read a body in each way, and which of them ran."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.called: list[str] = []
        self.first_half = asyncio.Event()
        self.app.post("/json")(self.json)
        self.app.post("/upload")(self.upload)
        self.app.post("/form")(self.form)
        self.app.post("/nothing")(self.nothing)

    async def json(self, number: Annotated[int, Body(embed=True)]) -> int:
        self.called.append("json")
        return number

    async def upload(self, request: Request) -> int:
        self.called.append("upload")
        size = 0
        async for part in request.stream():
            size += len(part)
            self.first_half.set()
        return size

    async def form(self, number: Annotated[int, Form()]) -> int:
        self.called.append("form")
        return number

    async def nothing(self) -> None:
        self.called.append("nothing")

    async def halves(self, patience: float = PATIENCE) -> AsyncIterator[bytes]:
        """The second half once the route has the first, or once patience is at its end."""
        yield HALVES[0]
        waiting = asyncio.create_task(self.first_half.wait())
        await asyncio.wait([waiting], timeout=patience)
        waiting.cancel()
        yield HALVES[1]

    async def post(
        self,
        *asked: tuple[str, Any],
        headers: dict[str, str] | None = None,
        timeout: float = 10,
    ) -> list[httpx.Response]:
        """The answers to these paths and bodies, each over a connection of its own."""
        answers = []
        async with serving(self.app) as served:
            for path, content in asked:
                async with httpx.AsyncClient(base_url=served.url, timeout=timeout) as client:
                    sent = client.post(path, content=content, headers=headers or AS_JSON)
                    answers.append(await sent)
        return answers


async def test_incorrect_leaves_the_route_without_its_body(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = Service()
    service.app.add_middleware(incorrect.run().AuditMiddleware)
    with pytest.raises(httpx.ReadTimeout) as raised:
        await service.post(("/json", JSON), timeout=PATIENCE)
    assert service.called == []
    witness.saw(raised.value)
    with pytest.raises(httpx.ReadTimeout):
        await service.post(("/upload", service.halves(0.1)), timeout=PATIENCE)
    assert not service.first_half.is_set()
    assert "starlette.requests.ClientDisconnect" in caplog.text
    witness.observed(incorrect="a JSON body and an upload: no answer before the client gave up")


async def test_correct_sees_what_the_route_reads(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = Service()
    service.app.add_middleware(correct.run().AuditMiddleware)
    answers = await service.post(
        ("/json", JSON), ("/upload", service.halves(10)), ("/nothing", JSON), ("/json", b"{}")
    )
    whole = b"".join(HALVES)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422]
    assert [answer.json() for answer in answers[:2]] == [7, len(whole)]
    assert text_log(caplog, "audit") == [
        f"INFO audit {path} {len(body)} bytes, SHA-256 {sha256(body).hexdigest()}"
        for path, body in (("/json", JSON), ("/upload", whole), ("/nothing", b""), ("/json", b"{}"))
    ]
    witness.observed(correct="a JSON body and an upload in two halves: 200 and 200, both logged")


async def test_correct_logs_one_line_for_a_path_and_also_where_the_app_raises(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "audit")
    started: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope["type"])
        if scope["type"] == "http":
            assert (await receive())["type"] == "http.disconnect"
            raise ConnectionError

    async def left() -> Message:
        return {"type": "http.disconnect"}

    middleware = correct.run().AuditMiddleware(app)
    await middleware({"type": "lifespan"}, left, None)
    with pytest.raises(ConnectionError):
        await middleware({"type": "http", "path": "/a\nb"}, left, None)
    assert started == ["lifespan", "http"]
    assert text_log(caplog, "audit") == [
        f"INFO audit /a%0Ab 0 bytes, SHA-256 {sha256().hexdigest()}"
    ]


async def test_correct_logs_the_part_that_arrived_of_a_client_that_left(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "audit")
    arriving: list[Message] = [
        {"type": "http.request", "body": HALVES[0], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return arriving.pop(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    with pytest.raises(ClientDisconnect):
        await correct.run().AuditMiddleware(app)({"type": "http", "path": "/"}, receive, None)
    size, digest = len(HALVES[0]), sha256(HALVES[0]).hexdigest()
    assert text_log(caplog, "audit") == [f"INFO audit / {size} bytes, SHA-256 {digest}"]


async def _digest(request: Request) -> str:
    return sha256(await request.body()).hexdigest()


async def test_a_dependency_reads_the_body_that_the_route_reads(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()

    @service.app.post("/model")
    async def model(
        number: Annotated[int, Body(embed=True)], seen: Annotated[str, Depends(_digest)]
    ) -> str:
        return f"{number} {seen}"

    @service.app.post("/signed-form")
    async def signed(number: Annotated[int, Form()], seen: Annotated[str, Depends(_digest)]) -> str:
        return f"{number} {seen}"

    async with serving(service.app) as served, httpx.AsyncClient(base_url=served.url) as client:
        answer = await client.post("/model", content=JSON, headers=AS_JSON)
        assert answer.json() == f"7 {sha256(JSON).hexdigest()}"
        assert (await client.post("/signed-form", data={"number": "7"})).status_code == 500
    assert "RuntimeError: Stream consumed" in caplog.text
    witness.saw(caplog.text)


async def _by_body(request: Request, call_next: CallNext) -> Response:
    assert await request.body()
    return await call_next(request)


async def _by_stream(request: Request, call_next: CallNext) -> Response:
    assert [part async for part in request.stream()]
    return await call_next(request)


async def _by_form(request: Request, call_next: CallNext) -> Response:
    await request.form()
    return await call_next(request)


async def _afterwards(request: Request, call_next: CallNext) -> Response:
    response = await call_next(request)
    await request.body()
    return response


async def _anew(request: Request, call_next: CallNext) -> Response:
    assert await Request(request.scope, request.receive).body()
    return await call_next(request)


@pytest.mark.parametrize(
    ("dispatch", "status"),
    [(_by_body, 200), (_by_stream, 422), (_by_form, 422), (_afterwards, 500), (_anew, None)],
)
async def test_what_each_way_to_read_leaves_under_base_http_middleware(
    dispatch: Any, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    service.app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    path, content, headers = "/json", JSON, AS_JSON
    if dispatch is _by_form:
        path, content, headers = (
            "/form",
            b"number=7",
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert [each.json() for each in await Service().post((path, content), headers=headers)] == [
            7
        ]
    if status is None:
        with pytest.raises(httpx.ReadTimeout):
            await service.post((path, content), headers=headers, timeout=PATIENCE)
        assert service.called == []
    else:
        (answer,) = await service.post((path, content), headers=headers)
        assert answer.status_code == status
    assert ("Stream consumed" in caplog.text) is (status == 500)


async def test_under_base_http_middleware_the_route_starts_after_the_last_byte() -> None:
    service = Service()
    service.app.add_middleware(BaseHTTPMiddleware, dispatch=_by_body)
    begun: list[bool] = []

    async def halves() -> AsyncIterator[bytes]:
        async for half in service.halves(0.1):
            yield half
            begun.append(service.first_half.is_set())

    (answer,) = await service.post(("/upload", halves()))
    assert answer.json() == len(b"".join(HALVES))
    assert begun[0] is False
    assert service.called == ["upload"]


class _First:
    """Has the body first, bounded, and replays what it has read."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        messages: list[Message] = []
        size, more = 0, True
        while more and size <= self.limit:
            messages.append(message := await receive())
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if more:
            return await Response(status_code=413)(scope, receive, send)

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        return await self.app(scope, replay, send)


async def test_a_middleware_that_replays_leaves_the_route_its_body() -> None:
    service = Service()
    service.app.add_middleware(_First, limit=100)
    answers = await service.post(
        ("/json", JSON), ("/upload", service.halves(0.1)), ("/upload", b"x" * 1_000_000)
    )
    assert [answer.status_code for answer in answers] == [200, 200, 413]
    assert answers[0].json() == 7
