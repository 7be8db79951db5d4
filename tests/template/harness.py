"""Starts the template in assets/ under a real uvicorn, and says what it does."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.services import (
    Database,
    Program,
    serving_process,
)

TEMPLATE = Path(__file__).parents[2] / "assets" / "fastapi-app-template.py"
ALLOWED = "https://shop.example.com"
FOREIGN = "https://evil.example"
POOL_SIZE = 2
POOL_TIMEOUT = 60.0  # seconds
READY_TIMEOUT = 5.0  # seconds
# Seconds for an answer that must not wait for the pool, even on a busy machine.
SOON = 20.0
PATIENT = 60.0

# What goes wrong, by its status. The 500 needs a table that is not there.
ERRORS: dict[int, tuple[str, str, Any]] = {
    404: ("GET", "/nothing", None),
    405: ("PUT", "/orders", None),
    422: ("POST", "/orders", {"number": "hunter2"}),
    500: ("GET", "/orders/1", None),
}
REQUESTS = {200: ("GET", "/health/live", None), **ERRORS}


def running(folder: Path, **settings: str | float) -> AbstractContextManager[Program]:
    """Start it with these settings."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--no-access-log", "--port", "{port}"]
    env = {name.upper(): str(value) for name, value in settings.items()}
    return serving_process(command, env=env, cwd=folder, path="/health/live", timeout=PATIENT)


def connected(program: Program) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=program.url, timeout=PATIENT)


@asynccontextmanager
async def altered(database: Database, change: str, undo: str) -> AsyncIterator[None]:
    await database.execute(f"ALTER TABLE {change}")
    try:
        yield
    finally:
        await database.execute(f"ALTER TABLE {undo}")


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """While the body runs, every statement on `orders` waits and keeps its connection."""
    connection = await asyncpg.connect(database.dsn, ssl=False, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waiting(database: Database, count: int) -> bool:
    """Whether so many statements wait for `orders`."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
    return bool(await database.fetchval(query) == count)


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Give what the condition gives, or what is awaited from it, once that is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.05)


async def create(client: httpx.AsyncClient, number: int = 7) -> httpx.Response:
    return await client.post("/orders", json={"number": number})


async def status(client: httpx.AsyncClient, path: str) -> int:
    """Its status, which comes soon."""
    async with asyncio.timeout(SOON):
        return (await client.get(path)).status_code


async def ready(client: httpx.AsyncClient) -> bool:
    return await status(client, "/health/ready") == 200


async def metrics(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def log_lines(program: Program) -> list[dict[str, Any]]:
    """Give its JSON lines, and not those of uvicorn."""
    *lines, _unfinished = program.output().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
