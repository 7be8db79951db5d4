"""A lifespan closes everything that it opened, whatever fails, only with an exit stack."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from redis.asyncio import Redis as RedisClient
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.proofs.harness import Block, Witness
from tests.services import Database, Redis, ServiceFailed, free_port, serving


@asynccontextmanager
async def _failing(block: Block, database: Database, redis_url: str) -> AsyncIterator[Any]:
    """Start and stop the service, which fails; give the pool that is left of it."""
    module = block.run(database_url=database.url(), redis_url=redis_url)
    engine = None  # an answer of evals keeps it once all has begun
    try:
        with pytest.raises(ServiceFailed) as failed:
            async with serving(module.app):
                pass
        assert isinstance(failed.value.__cause__, ConnectionError | RedisConnectionError)
        engine = getattr(module.app.state, "engine", None)
        yield engine and engine.pool
    finally:
        if engine:
            await engine.dispose()


def _nobody() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


@pytest.fixture
def closes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was closed, in order. Closing the cache raises afterwards."""
    order: list[str] = []
    dispose, aclose = AsyncEngine.dispose, RedisClient.aclose

    async def dispose_and_tell(engine: AsyncEngine) -> None:
        order.append("engine")
        await dispose(engine)

    async def aclose_and_raise(cache: Any) -> None:
        order.append("cache")
        await aclose(cache)
        raise ConnectionError("broken pipe")

    monkeypatch.setattr(AsyncEngine, "dispose", dispose_and_tell)
    monkeypatch.setattr(RedisClient, "aclose", aclose_and_raise)
    return order


async def test_incorrect_leaves_a_connection_open_when_the_start_fails(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _failing(incorrect, database, _nobody()) as pool:
        assert (pool.checkedin(), database.connections()) == (1, 1)
    witness.observed(incorrect="Redis down at the start, or its close raises: 1 connection open")


async def test_correct_closes_it_when_the_start_fails(
    correct: Block, database: Database, witness: Witness
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a bare generator as a lifespan is deprecated
        correct.run(database_url=database.url(), redis_url=_nobody())
    async with _failing(correct, database, _nobody()) as pool:
        assert not pool or pool.checkedin() == 0
        await database.left()
    witness.observed(correct="Redis down at the start, or its close raises: 0 connections open")


async def test_incorrect_leaves_a_connection_open_when_a_close_fails(
    incorrect: Block,
    database: Database,
    redis_server: Redis,
    closes: list[str],
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    async with _failing(incorrect, database, redis_server.url) as pool:
        assert closes == ["cache"]
        assert (pool.checkedin(), database.connections()) == (1, 1)
    assert "Application shutdown failed. Exiting." in caplog.messages


async def test_correct_closes_in_reverse_order_when_a_close_fails(
    correct: Block, database: Database, redis_server: Redis, closes: list[str]
) -> None:
    async with _failing(correct, database, redis_server.url) as pool:
        assert closes == ["cache", "engine"]
        assert pool.checkedin() == 0
        await database.left()


async def test_event_handlers_are_not_called_beside_a_lifespan(witness: Witness) -> None:
    called = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        called.append("lifespan")
        yield

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        app = FastAPI(lifespan=lifespan, on_startup=[lambda: called.append("on_startup")])
        app.on_event("startup")(lambda: called.append("on_event"))
    witness.saw(*(f"{each.category.__name__}: {each.message}" for each in warned))
    async with serving(app):
        assert called == ["lifespan"]


def _with_state() -> FastAPI:
    """An application whose lifespan sets `state.number`, which its route gives."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.number = 7
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def number(request: Request) -> int:
        value: int = request.app.state.number
        return value

    return app


async def test_the_transport_of_httpx_does_not_run_the_lifespan(witness: Witness) -> None:
    app = _with_state()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(AttributeError, match="number") as missing:
            await client.get("/")
        witness.saw(missing.value)
        async with app.router.lifespan_context(app):
            assert (await client.get("/")).json() == 7


async def test_the_lifespan_of_a_mounted_app_runs_only_where_the_main_one_enters_it() -> None:
    sub = _with_state()

    @asynccontextmanager
    async def entering(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(sub.router.lifespan_context(sub))
            yield

    statuses = []
    for lifespan in (None, entering):
        app = FastAPI(lifespan=lifespan)
        app.mount("/sub", sub)
        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            statuses.append((await client.get("/sub/")).status_code)
    assert statuses == [500, 200]


TESTED = """
import sys
sys.modules["httpx2"] = None  # as where it is not installed
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.testclient import TestClient

@asynccontextmanager
async def lifespan(app):
    print("start")
    yield
    print("stop")

app = FastAPI(lifespan=lifespan)
app.get("/")(lambda: 1)
print(TestClient(app).get("/").status_code)
with TestClient(app) as client:
    print(client.get("/").status_code)
"""


def test_the_test_client_runs_the_lifespan_only_as_a_context_manager(witness: Witness) -> None:
    command = [sys.executable, "-W", "always", "-c", TESTED]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split() == ["200", "start", "200", "stop"]
    assert ("StarletteDeprecationWarning" in ran.stderr) is (version("fastapi") != "0.121.0")
    witness.saw(ran.stderr)


LIVES = """
import sys

async def app(scope, receive, send):
    while True:
        event = (await receive())["type"]
        print(event, file=sys.stderr, flush=True)
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            break
"""


def test_on_sighup_uvicorn_starts_the_new_worker_before_it_stops_the_old_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "main.py").write_text(LIVES, encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "0", "--workers", "2"]
    if version("uvicorn") != "0.30.0":
        # A new worker that is not ready within it, 5 s, ends the restart: the old one stays.
        command += ["--timeout-worker-healthcheck", "100"]
    events: list[str] = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    ) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if not line.startswith("lifespan."):
                    continue
                events.append(line.strip().removeprefix("lifespan."))
                if events == ["startup"] * 2:
                    process.send_signal(signal.SIGHUP)
                if events.count("startup") == 4 and events.count("shutdown") >= 2:
                    break
        finally:  # or a test that runs out of time would wait for uvicorn
            os.killpg(process.pid, signal.SIGKILL)
    if version("uvicorn") == "0.30.0":
        assert events[2] == "shutdown", "the old one stops first; then both go on at once"
    else:
        assert events[2:] == ["startup", "shutdown"] * 2
