"""Starts the template in assets/ under a real uvicorn, and says what it does."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
SLOW = 1.0  # seconds that a statement of `extended_program` may take
MAX_BODY = 1000  # bytes

# Routes that the template has not: `extended` has them, for what only a copy of it meets.
EXTRA = """

from fastapi.responses import StreamingResponse


@api.get("/extra/unchanged/{code}")
async def unchanged(code: int) -> None:
    raise HTTPException(code, headers={"ETag": '"1"'})


@api.post("/extra/sql")
async def run_sql(statements: list[str], session: Session) -> Any:
    for statement in statements:
        result = await session.execute(text(statement))
    return result.scalar()


@api.post("/extra/lost")
async def lose_connection(session: Session, shared: Shared) -> None:
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    async with shared.sessions.begin() as other:
        await other.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
    await session.execute(text("SELECT 1"))


@api.get("/extra/partner/{fault}")
async def ask_partner(fault: str, shared: Shared) -> None:
    if fault == "refused":
        await asyncio.open_connection("127.0.0.1", 1)
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)


@api.get("/extra/failing")
async def fail() -> None:
    raise ValueError("it failed")


@api.get("/extra/failing/later")
async def fail_later(tasks: BackgroundTasks) -> None:
    tasks.add_task(fail)


@api.get("/extra/failing/midway")
async def fail_midway() -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun"
        await fail()

    return StreamingResponse(chunks())


@api.get("/extra/cleaning")
async def clean_up(shared: Shared) -> None:
    try:
        logger.info("begun")
        await asyncio.sleep(60)
    finally:
        for _ in range(10):
            await asyncio.sleep(0.05)
        async with shared.sessions.begin() as session:
            await session.execute(text("INSERT INTO orders (number, created_at) VALUES (1, now())"))
        await shared.http.get(str(shared.settings.webhook_url))


@api.get("/extra/stubborn")
async def go_on() -> None:
    logger.info("begun")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            logger.info("it goes on")


@api.post("/extra/committed")
async def read_committed(shared: Shared) -> int:
    async with shared.sessions.begin() as session:
        order = await Repository(session, Order).add(Order(number=3))
    return order.number


@api.get("/extra/running")
async def count_running() -> int:
    return len(running)


@api.post("/extra/length")
async def measure(request: Request) -> int:
    return sum([len(chunk) async for chunk in request.stream()])
"""

# What goes wrong, by its status. The 500 needs a table that is not there.
ERRORS: dict[int, tuple[str, str, Any]] = {
    404: ("GET", "/nothing", None),
    405: ("PUT", "/orders", None),
    422: ("POST", "/orders", {"number": "hunter2"}),
    500: ("GET", "/orders/1", None),
}
REQUESTS = {200: ("GET", "/health/live", None), **ERRORS}


def run_line() -> list[str]:
    """Give the uvicorn command that the template's first lines tell its reader to run."""
    found = re.search(r"^    (uvicorn (?:.*\\\n)*.*)", TEMPLATE.read_text("utf-8"), re.MULTILINE)
    assert found
    return shlex.split(found[1].replace("\\\n", " "))


def running(
    folder: Path,
    *,
    options: Mapping[str, str | int] | None = None,
    metrics_folder: Path | None = None,
    **settings: str | float,
) -> AbstractContextManager[Program]:
    """Start it as its docstring says, with these settings and these options of uvicorn changed.

    Unless told otherwise it has one worker, and SIGTERM stops it without a drain.
    """
    command = [sys.executable, "-m", *run_line(), "--port", "{port}"]
    for name, value in {"workers": 1, **(options or {})}.items():
        command[command.index(f"--{name}") + 1] = str(value)
    settings = {"drain_time": 0, **settings}
    env = {f"SHOP_{name.upper()}": str(value) for name, value in settings.items()}
    if metrics_folder is not None:
        env["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_folder)
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
