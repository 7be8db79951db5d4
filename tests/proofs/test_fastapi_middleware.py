"""A log line has the request id only where RequestID runs outside of Logging."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.logs import text_log
from tests.services import serving

ORIGIN = {"Origin": "https://shop.example.com"}
WRITTEN = ["CORSMiddleware", "RequestIDMiddleware", "TimingMiddleware", "LoggingMiddleware"]
ORDINARY = "/orders/7/a-b_c.d~e"
FORGED = "/x%0AINFO%20access%20GET%20/admin%20id%3D1"


@dataclass
class TimingMiddleware:
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Server-Timing"] = "app;dur=1"
            await send(message)

        await self.app(scope, receive, send_timed)


@dataclass
class Refuse:
    """A layer that lets nobody in."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        return await PlainTextResponse("no", 401)(scope, receive, send)


def _app(block: Block) -> FastAPI:
    """The block's app. One that is given the classes gets those that the rule's Correct defines."""
    given: dict[str, Any] = {"TimingMiddleware": TimingMiddleware}
    if len(block.given) > 1:
        defining = RuleFile.load("fastapi-middleware").block(correct=True).run(**given)
        given["RequestIDMiddleware"] = defining.RequestIDMiddleware
        given["LoggingMiddleware"] = defining.LoggingMiddleware
    app: FastAPI = block.run(**given).app

    @app.get("/orders/{number}")
    async def read_order(number: int) -> int:
        return 100 // number

    return app


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url, headers=ORIGIN) as client,
    ):
        yield client


def _layers(app: FastAPI) -> list[str]:
    """The names of the middleware in the order in which a request passes them."""
    names = []
    layer: Any = app.build_middleware_stack()
    while layer is not None:
        names.append(type(layer).__name__)
        layer = getattr(layer, "app", None)
    return [name for name in names if name in {*WRITTEN, "Refuse"}]


def _logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "access"]


async def _three(app: FastAPI) -> list[str]:
    """The X-Request-ID of three answers."""
    async with _client(app) as client:
        answers = [await client.get(f"/orders/{number}") for number in (1, 2, 3)]
    assert all(answer.headers["Server-Timing"] == "app;dur=1" for answer in answers)
    return [answer.headers["X-Request-ID"] for answer in answers]


async def test_incorrect_runs_the_layers_backwards_and_logs_no_request_id(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    app = _app(incorrect)
    assert _layers(app) == WRITTEN[::-1]
    ids = await _three(app)
    assert len(set(ids)) == 3
    assert _logged(caplog) == [f"GET /orders/{number} id=-" for number in (1, 2, 3)]
    witness.observed(incorrect="3 of 3 log lines without a request id; Logging ran outermost")


async def test_correct_runs_the_layers_as_written_and_logs_the_id_of_the_answer(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    app = _app(correct)
    assert _layers(app) == WRITTEN
    ids = await _three(app)
    assert len(set(ids)) == 3
    assert _logged(caplog) == [
        f"GET /orders/{number} id={each}" for number, each in zip((1, 2, 3), ids, strict=True)
    ]
    witness.observed(correct="3 of 3 log lines with the id of the answer; CORS ran outermost")


async def test_correct_lets_the_lifespan_through_and_leaves_no_id_behind(correct: Block) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.append("start")
        yield
        events.append("stop")

    module = correct.run(TimingMiddleware=TimingMiddleware)
    inner = module.LoggingMiddleware(FastAPI(lifespan=lifespan))
    async with serving(module.RequestIDMiddleware(inner)):
        assert events == ["start"]
    assert events == ["start", "stop"]
    transport = httpx.ASGITransport(module.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert "X-Request-ID" in (await client.get("/")).headers
    assert module.request_id.get() == "-"


async def _lines(block: Block, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a text log holds after a request for each of the two paths, with N for an id."""
    caplog.clear()
    async with _client(_app(block)) as client:
        for path in (ORDINARY, FORGED):
            await client.get(path)
    return [re.sub(r"id=[0-9a-f]{32}$", "id=N", line) for line in text_log(caplog, "access")]


async def test_correct_keeps_a_path_with_a_line_break_in_its_line(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    ordinary = f"INFO access GET {ORDINARY} id=N"
    assert await _lines(correct, caplog) == [ordinary, f"INFO access GET {FORGED} id=N"]
    decoded = correct.code.replace('quote(scope["path"])', 'scope["path"]')
    assert await _lines(replace(correct, code=decoded), caplog) == [
        ordinary,
        "INFO access GET /x",
        "INFO access GET /admin id=1 id=N",
    ]


async def test_cors_answers_a_preflight_before_it_is_logged(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    async with _client(_app(correct)) as client:
        preflight = await client.options(
            "/orders/1", headers={"Access-Control-Request-Method": "GET"}
        )
    assert preflight.status_code == 200
    assert _logged(caplog) == []


async def test_an_unhandled_error_is_answered_outside_of_all_layers_but_logged_with_the_id(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    async with _client(_app(correct)) as client:
        failed = await client.get("/orders/0")
    assert failed.status_code == 500
    assert "X-Request-ID" not in failed.headers
    [line] = _logged(caplog)
    assert line.startswith("GET /orders/0 id=")
    assert not line.endswith("=-")


def test_add_middleware_goes_outside_of_the_list(correct: Block) -> None:
    app = _app(correct)
    assert _layers(app) == WRITTEN
    app.add_middleware(Refuse)
    assert _layers(app) == ["Refuse", *WRITTEN]


def test_added_from_the_inside_out_the_layers_run_in_the_same_order(correct: Block) -> None:
    app = _app(correct)
    added = FastAPI()
    for layer in reversed(app.user_middleware):
        added.add_middleware(layer.cls, *layer.args, **layer.kwargs)
    assert _layers(added) == _layers(app) == WRITTEN


@pytest.mark.parametrize("inside", [True, False])
async def test_a_refusal_has_cors_headers_only_inside_of_cors(inside: bool) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=[ORIGIN["Origin"]])
    refuse = Middleware(Refuse)
    app = FastAPI(middleware=[cors, refuse] if inside else [refuse, cors])
    async with _client(app) as client:
        refused = await client.get("/")
    assert refused.status_code == 401
    assert ("access-control-allow-origin" in refused.headers) is inside
