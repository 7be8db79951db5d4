"""Only handlers on Starlette's HTTPException and two more classes answer every error alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, field_validator
from starlette.types import Receive, Scope, Send

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import serving

PROBLEM = "application/problem+json"
PASSWORD = "hunter2"


class SignUp(BaseModel):
    password: str

    @field_validator("password")
    @classmethod
    def _long(cls, value: str) -> str:
        raise ValueError("too short")


def _with_routes(app: FastAPI) -> FastAPI:
    @app.get("/orders/{number}")
    async def read_order(number: int) -> int:
        if number == 404:
            raise HTTPException(404, "no such order", {"X-Order": "404"})
        if number == 599:
            raise HTTPException(599, "no name")
        raise RuntimeError("secret of the database")

    @app.post("/users")
    async def sign_up(body: SignUp) -> None:
        del body

    return app


@asynccontextmanager
async def _client(app: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        yield client


async def _errors(app: FastAPI) -> dict[str, httpx.Response]:
    """The answers to one request for each way to fail."""
    requests = {
        "raised": ("GET", "/orders/404"),
        "path": ("GET", "/nowhere"),
        "method": ("PUT", "/orders/1"),
        "parameter": ("GET", "/orders/seven"),
        "unhandled": ("GET", "/orders/1"),
    }
    async with _client(_with_routes(app)) as client:
        return {name: await client.request(*each) for name, each in requests.items()}


async def test_incorrect_answers_one_of_five_errors_as_a_problem(
    incorrect: Block, witness: Witness
) -> None:
    answers = await _errors(incorrect.run().app)
    kinds = {
        name: (answer.status_code, answer.headers["content-type"].partition(";")[0])
        for name, answer in answers.items()
    }
    assert kinds == {
        "raised": (404, PROBLEM),
        "path": (404, "application/json"),
        "method": (405, "application/json"),
        "parameter": (422, "application/json"),
        "unhandled": (500, "text/plain"),
    }
    witness.observed(
        incorrect="1 of 5 errors a problem document; 404, 405 and 422 of the framework "
        "application/json, 500 text/plain"
    )


async def test_correct_answers_five_of_five_errors_as_problems(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    answers = await _errors(correct.run().app)
    for answer in answers.values():
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["type"] == "about:blank"
        assert answer.json()["status"] == answer.status_code
    assert [answer.status_code for answer in answers.values()] == [404, 404, 405, 422, 500]
    titles = [answer.json()["title"] for answer in answers.values()]
    assert titles[:3] == ["Not Found", "Not Found", "Method Not Allowed"]
    assert titles[3].startswith("Unprocessable")
    assert titles[4] == "Internal Server Error"
    assert answers["raised"].json()["detail"] == "no such order"
    assert answers["parameter"].json()["detail"] == "The request is not valid."
    assert answers["unhandled"].json().keys() == {"type", "title", "status"}
    assert answers["raised"].headers["X-Order"] == "404"
    assert answers["method"].headers["Allow"] == "GET"
    assert answers["parameter"].json()["errors"] == [
        {
            "detail": "Input should be a valid integer, unable to parse string as an integer",
            "location": "path/number",
        }
    ]
    assert "secret" not in answers["unhandled"].text
    assert "RuntimeError: secret of the database" in caplog.text
    witness.observed(correct="5 of 5 errors problem documents, with their headers")


async def test_correct_answers_422_for_a_validator_that_raises_and_keeps_the_input_back(
    correct: Block,
) -> None:
    async with _client(_with_routes(correct.run().app)) as client:
        answer = await client.post("/users", json={"password": PASSWORD})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["errors"] == [
        {"detail": "Value error, too short", "location": "body/password"}
    ]
    assert PASSWORD not in answer.text


async def test_correct_has_a_title_for_a_status_that_has_no_name(correct: Block) -> None:
    async with _client(_with_routes(correct.run().app)) as client:
        answer = await client.get("/orders/599")
    assert (answer.status_code, answer.json()["title"]) == (599, "Error")


async def _exchanged(app: FastAPI, status: int) -> list[bytes]:
    """What one connection gives for a status without a body and for a 200, cut after headers."""

    @app.get("/unchanged")
    async def unchanged() -> None:
        raise HTTPException(status, headers={"ETag": '"1"'})

    @app.get("/next")
    async def follow() -> str:
        return "next"

    async with serving(app, http="h11") as served, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            b"GET /unchanged HTTP/1.1\r\nHost: shop\r\n\r\n"
            b"GET /next HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
        )
        received = await reader.read()
        writer.close()
    return received.split(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_incorrect_sends_a_body_after_204_and_304_and_loses_the_connection(
    status: int, incorrect: Block, caplog: pytest.LogCaptureFixture, witness: Witness
) -> None:
    first, *rest = await _exchanged(incorrect.run().app, status)
    assert first.startswith(b"HTTP/1.1 %d" % status)
    assert rest == [b""]
    assert "LocalProtocolError: Too much data for declared Content-Length" in caplog.text
    witness.saw(caplog.text)


@pytest.mark.parametrize("status", [204, 304])
async def test_correct_answers_204_and_304_without_a_body_and_then_the_next_request(
    status: int, correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, body = await _exchanged(correct.run().app, status)
    assert first.startswith(b"HTTP/1.1 %d" % status)
    assert b'\r\netag: "1"' in first
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert body == b'"next"'
    assert "Error" not in caplog.text


async def test_errors_as_they_are_repeat_the_input_or_do_not_serialise(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    app = _with_routes(FastAPI())

    @app.exception_handler(RequestValidationError)
    async def handle(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"errors": error.errors()}, 422)

    async with _client(app) as client:
        repeated = await client.post("/users", json={"password": [PASSWORD]})
        failed = await client.post("/users", json={"password": PASSWORD})
    assert repeated.status_code == 422
    assert PASSWORD in repeated.text
    assert failed.status_code == 500
    witness.saw(caplog.text)


async def test_an_http_exception_of_a_middleware_is_an_unhandled_error(correct: Block) -> None:
    class Refuse:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                raise HTTPException(401)
            await self.app(scope, receive, send)

    app = correct.run().app
    app.add_middleware(Refuse)
    async with _client(app) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)


@pytest.mark.skipif(version("fastapi") == "0.121.0", reason="it has no max_body_size")
async def test_a_body_that_is_announced_as_too_large_is_refused_before_any_handler() -> None:
    block = RuleFile.load("fastapi-problem-details").block(correct=True)
    code = block.code.replace("app = FastAPI()", "app = FastAPI(max_body_size=10)")
    assert code != block.code

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 11

    async with _client(_with_routes(replace(block, code=code).run().app)) as client:
        answers = [
            await client.post("/users", content=content) for content in (b"x" * 11, chunks())
        ]
    assert [answer.status_code for answer in answers] == [413, 413]
    kinds = [answer.headers["content-type"].partition(";")[0] for answer in answers]
    assert kinds == ["text/plain", PROBLEM]


@pytest.mark.parametrize("caught", [False, True])
async def test_after_an_unhandled_error_the_connection_ends_unless_a_layer_catches_the_error(
    caught: bool, correct: Block
) -> None:
    app, ran = _with_routes(correct.run().app), []
    begun, over = asyncio.Event(), asyncio.Event()

    @app.get("/next")
    async def follow() -> None:
        begun.set()
        await asyncio.wait_for(over.wait(), 10)
        ran.append("next")

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except RuntimeError:
            # Holds the moment in which the client has the answer, and the connection is still open.
            await asyncio.wait_for(begun.wait(), 10)
            over.set()
            if not caught:
                raise

    async with _client(around) as client:
        failed = await client.get("/orders/1")
        assert (failed.status_code, failed.headers["content-type"]) == (500, PROBLEM)
        assert "connection" not in failed.headers
        if caught:
            assert (await client.get("/next")).status_code == 200
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/next")
    assert ran == ["next"]


async def test_a_mounted_app_answers_by_its_own_handlers(correct: Block) -> None:
    app = correct.run().app
    app.mount("/admin", FastAPI())
    async with _client(app) as client:
        answers = [await client.get(path) for path in ("/nowhere", "/admin/nowhere")]
    assert [answer.headers["content-type"] for answer in answers] == [PROBLEM, "application/json"]


def test_openapi_goes_on_to_describe_422_as_json(correct: Block) -> None:
    module = correct.run()
    app = _with_routes(module.app)
    assert app.exception_handlers[RequestValidationError] is module.on_invalid_request
    responses = app.openapi()["paths"]["/orders/{number}"]["get"]["responses"]
    assert list(responses["422"]["content"]) == ["application/json"]
