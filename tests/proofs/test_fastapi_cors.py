"""A foreign origin gets in with the wildcard, and a 500 needs CORS around the whole app."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import AnyHttpUrl

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import serving, serving_process

OURS, FOREIGN = "https://shop.example.com", "https://evil.example"
ALLOWED, CREDENTIALS = "access-control-allow-origin", "access-control-allow-credentials"


@asynccontextmanager
async def _client(app: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        yield client


def _with_routes(api: FastAPI) -> list[str]:
    """Add routes that succeed, refuse and fail; give the list in which orders are noted."""
    orders: list[str] = []

    @api.get("/orders")
    async def read_orders() -> list[str]:
        return ["secret order"]

    @api.post("/orders")
    async def create_order(request: Request) -> None:
        orders.append(request.headers["origin"])

    @api.get("/refused")
    async def refuse() -> None:
        raise HTTPException(404)

    @api.get("/failed")
    async def fail() -> None:
        raise RuntimeError("unhandled")

    return orders


async def _ask(client: httpx.AsyncClient, path: str, origin: str) -> httpx.Response:
    """Ask as a browser does for a script of `origin` that sends the user's cookie."""
    return await client.get(path, headers={"Origin": origin, "Cookie": "session=ada"})


def _readable(answer: httpx.Response, origin: str) -> bool:
    """Whether a browser lets a script of `origin` read the answer to a request with a cookie."""
    return (answer.headers.get(ALLOWED), answer.headers.get(CREDENTIALS)) == (origin, "true")


async def _statuses_and_readable(block: Block) -> dict[str, tuple[int, bool]]:
    module = block.run()
    _with_routes(module.api)
    asked = {
        "ours": ("/orders", OURS),
        "foreign": ("/orders", FOREIGN),
        "refused": ("/refused", OURS),
        "failed": ("/failed", OURS),
    }
    async with _client(module.app) as client:
        answers = {name: (await _ask(client, *each), each[1]) for name, each in asked.items()}
    return {
        name: (answer.status_code, _readable(answer, origin))
        for name, (answer, origin) in answers.items()
    }


async def test_incorrect_lets_a_foreign_origin_read_and_hides_the_500(
    incorrect: Block, witness: Witness
) -> None:
    assert await _statuses_and_readable(incorrect) == {
        "ours": (200, True),
        "foreign": (200, True),
        "refused": (404, True),
        "failed": (500, False),
    }
    witness.observed(
        incorrect="a foreign origin could read an answer to a cookie; the 500 had no CORS header"
    )


async def test_correct_lets_only_its_origin_read_and_shows_it_the_500(
    correct: Block, witness: Witness
) -> None:
    assert await _statuses_and_readable(correct) == {
        "ours": (200, True),
        "foreign": (200, False),
        "refused": (404, True),
        "failed": (500, True),
    }
    witness.observed(correct="a foreign origin could read nothing; the 500 had its CORS headers")


async def _preflight(client: httpx.AsyncClient, method: str, *headers: str) -> httpx.Response:
    asked = {"Origin": OURS, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = ", ".join(headers)
    return await client.options("/orders", headers=asked)


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def test_correct_allows_the_listed_methods_and_headers_and_no_others(
    correct: Block, witness: Witness
) -> None:
    async with _client(correct.run().app) as client:
        for method in METHODS:
            assert (await _preflight(client, method, "authorization")).status_code == 200
        allowed = await _preflight(client, "POST", "authorization", "content-type")
        assert allowed.status_code == 200
        assert {"Authorization", "Content-Type"} <= set(
            allowed.headers["access-control-allow-headers"].split(", ")
        )
        no_method = await _preflight(client, "TRACE")
        no_header = await _preflight(client, "GET", "x-own")
    assert (no_method.status_code, no_method.text) == (400, "Disallowed CORS method")
    assert (no_header.status_code, no_header.text) == (400, "Disallowed CORS headers")
    witness.saw(no_method.text, no_header.text)


async def test_correct_shows_scripts_the_request_id(correct: Block) -> None:
    module = correct.run()
    _with_routes(module.api)
    async with _client(module.app) as client:
        answer = await _ask(client, "/orders", OURS)
    assert answer.headers["access-control-expose-headers"] == "X-Request-ID"


async def test_an_answer_without_an_origin_has_no_vary_in_an_old_starlette(correct: Block) -> None:
    module = correct.run()
    _with_routes(module.api)
    async with _client(module.app) as client:
        answers = [await client.get("/orders"), await _ask(client, "/orders", OURS)]
        foreign = await _ask(client, "/orders", FOREIGN)
    always = version("starlette") != "0.49.3"
    assert [answer.headers.get("vary") for answer in answers] == [
        "Origin" if always else None,
        "Origin",
    ]
    assert ALLOWED not in foreign.headers


async def _said(app: Callable[..., Any], origin: str) -> list[Any]:
    """What an app sends to a WebSocket that a script of `origin` opens with the user's cookie."""
    headers = [(b"host", b"shop"), (b"origin", origin.encode()), (b"cookie", b"session=ada")]
    scope = {"type": "websocket", "path": "/orders", "headers": headers, "query_string": b""}
    incoming: list[Any] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "scheme": "ws", "server": ("shop", 80), "root_path": ""}, receive, send)
    return [message.get("text") for message in sent if message["type"] == "websocket.send"]


@pytest.mark.parametrize(("checked", "allowed"), [(False, [OURS, FOREIGN]), (True, [OURS])])
async def test_a_websocket_of_a_foreign_origin_passes_unless_the_route_looks(
    checked: bool, allowed: list[str]
) -> None:
    module = RuleFile.load("fastapi-cors").block(correct=True).run()

    async def read_orders(websocket: WebSocket) -> None:
        if checked and websocket.headers.get("origin") != OURS:
            raise WebSocketException(1008)
        await websocket.accept()
        await websocket.send_text(f"secret order of {websocket.cookies['session']}")
        await websocket.close()

    module.api.websocket("/orders")(read_orders)
    secret = ["secret order of ada"]
    said = {origin: await _said(module.app, origin) for origin in (OURS, FOREIGN)}
    assert said == {origin: secret if origin in allowed else [] for origin in (OURS, FOREIGN)}


async def test_a_request_of_a_foreign_origin_runs_all_the_same(correct: Block) -> None:
    module = correct.run()
    orders = _with_routes(module.api)
    async with _client(module.app) as client:
        answer = await client.post("/orders", headers={"Origin": FOREIGN})
    assert (answer.status_code, answer.headers.get(ALLOWED)) == (200, None)
    assert orders == [FOREIGN]


def test_a_server_that_is_given_api_answers_without_cors(correct: Block, tmp_path: Path) -> None:
    found = [name for name, each in vars(correct.run()).items() if isinstance(each, FastAPI)]
    assert found == ["api"]
    (tmp_path / "main.py").write_text(correct.code, encoding="utf-8")
    allowed = {}
    for name in ("app", "api"):
        command = [sys.executable, "-m", "uvicorn", f"main:{name}", "--port", "{port}"]
        with serving_process(command, cwd=tmp_path) as program:
            answer = httpx.get(f"{program.url}/openapi.json", headers={"Origin": OURS}, timeout=10)
        assert answer.status_code == 200
        allowed[name] = answer.headers.get(ALLOWED)
    assert allowed == {"app": OURS, "api": None}


async def test_the_lifespan_of_the_wrapped_app_runs() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.append("start")
        yield
        events.append("stop")

    async with _client(CORSMiddleware(FastAPI(lifespan=lifespan), allow_origins=[OURS])):
        assert events == ["start"]
    assert events == ["start", "stop"]


async def test_a_handler_for_exception_answers_outside_of_an_added_cors() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=[OURS])
    _with_routes(app)

    @app.exception_handler(Exception)
    async def handle(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"title": "Internal Server Error"}, 500)

    async with _client(app) as client:
        answer = await _ask(client, "/failed", OURS)
    assert answer.json() == {"title": "Internal Server Error"}
    assert ALLOWED not in answer.headers


@pytest.mark.parametrize("slash", [True, False])
async def test_an_origin_with_a_slash_at_its_end_matches_no_browser(
    slash: bool, witness: Witness
) -> None:
    url = str(AnyHttpUrl(OURS))
    assert url == f"{OURS}/"
    app = CORSMiddleware(FastAPI(), allow_origins=[url if slash else OURS])
    async with _client(app) as client:
        headers = {"Origin": OURS, "Access-Control-Request-Method": "GET"}
        preflight = await client.options("/orders", headers=headers)
    if slash:
        assert (preflight.status_code, preflight.text) == (400, "Disallowed CORS origin")
        witness.saw(preflight.text)
    else:
        assert preflight.status_code == 200
