"""A foreign origin gets in with the wildcard, and a 500 needs CORS around the whole app."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import AnyHttpUrl

from tests.proofs.harness import Block, Witness
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
