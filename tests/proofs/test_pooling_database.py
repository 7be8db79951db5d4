"""An exhausted pool answers 503 soon only where its wait is bounded and its error is handled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Database, free_port, serving
from tests.services.process import HOST


def _limit(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    return int(pool.size() + pool._max_overflow)


@asynccontextmanager
async def _exhausted(block: Block, database: Database) -> AsyncIterator[tuple[Any, Any]]:
    """The block's engine, all of whose connections are out, and a client of its application."""
    module = block.run(url=database.url())
    engine: AsyncEngine = module.engine
    try:
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
            AsyncExitStack() as held,
        ):
            assert (await client.get("/orders/next")).json() == 7
            for _ in range(_limit(engine)):
                await held.enter_async_context(engine.connect())
            yield engine, client
    finally:
        await engine.dispose()


async def _answer(client: httpx.AsyncClient, seconds: float = 10) -> httpx.Response | None:
    """The answer, if it comes in time."""
    request = asyncio.ensure_future(client.get("/orders/next"))
    await asyncio.wait({request}, timeout=seconds)
    if request.done():
        return request.result()
    request.cancel()
    await asyncio.wait({request})
    return None


async def test_incorrect_lets_a_request_wait_for_the_default_of_30_seconds(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _exhausted(incorrect, database) as (engine, client):
        assert (engine.pool.size(), _limit(engine), engine.pool.timeout()) == (5, 15, 30.0)
        assert await _answer(client, seconds=2) is None


async def test_incorrect_answers_500_since_no_handler_fits(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with _exhausted(incorrect, database) as (engine, client):
        engine.pool._timeout = 0.1  # 30 in the block: the test does not wait for it
        answer = await _answer(client)
    assert answer is not None
    assert answer.status_code == 500
    witness.observed(incorrect="pool exhausted: no answer in 2 s; when it comes it is a 500")


async def test_correct_answers_503_while_the_caller_waits(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _exhausted(correct, database) as (engine, client):
        assert database.connections() == _limit(engine) == 10
        answer = await _answer(client)
    assert answer is not None
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    witness.observed(correct="pool exhausted: 503 after pool_timeout")


async def test_the_pools_error_is_no_builtin_timeout_and_no_dbapi_error(database: Database) -> None:
    engine = create_async_engine(database.url(), pool_size=2, max_overflow=1, pool_timeout=0.1)
    try:
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(engine.connect())
            with pytest.raises(exc.TimeoutError) as raised:
                await engine.connect()
    finally:
        await engine.dispose()
    expected = "QueuePool limit of size 2 overflow 1 reached, connection timed out, timeout 0.10"
    assert expected in str(raised.value)
    assert not isinstance(raised.value, TimeoutError | exc.DBAPIError)


@pytest.mark.parametrize(("size", "overflow", "opened"), [(1, 1, 6), (2, 0, 2)])
async def test_a_connection_beyond_pool_size_is_closed_when_it_is_returned(
    database: Database, size: int, overflow: int, opened: int
) -> None:
    connects = 0

    def count(*_: object) -> None:
        nonlocal connects
        connects += 1

    engine = create_async_engine(database.url(), pool_size=size, max_overflow=overflow)
    event.listen(engine.sync_engine, "connect", count)
    try:
        for _ in range(5):
            async with engine.connect(), engine.connect():
                pass
    finally:
        await engine.dispose()
    assert connects == opened


@pytest.mark.parametrize(
    "unlimited",
    [
        {"max_overflow": -1, "pool_size": 1, "pool_timeout": 0.1},
        {"pool_size": 0, "pool_timeout": 0.1},
        {"poolclass": NullPool},
    ],
)
async def test_some_values_mean_no_limit(database: Database, unlimited: dict[str, Any]) -> None:
    engine = create_async_engine(database.url(), **unlimited)
    try:
        async with AsyncExitStack() as held:
            for _ in range(20):
                await held.enter_async_context(engine.connect())
            assert database.connections() == 20
    finally:
        await engine.dispose()


def test_null_pool_refuses_what_bounds_a_pool(database: Database) -> None:
    for name in ("pool_size", "max_overflow", "pool_timeout"):
        settings: dict[str, Any] = {name: 1}
        with pytest.raises(TypeError, match=name):
            create_async_engine(database.url(), poolclass=NullPool, **settings)
    create_async_engine(database.url(), poolclass=NullPool, pool_pre_ping=True, pool_recycle=240)


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """The host and port of a server that accepts and never answers."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(accept, HOST, port):
        yield f"{HOST}:{port}"


async def test_the_handler_answers_for_every_timeout_and_blames_no_database() -> None:
    block = RuleFile.load("pooling-database").block(correct=True)
    async with _silent() as address:
        module = block.run(url=f"postgresql+asyncpg://postgres@{address}/orders")
        app: FastAPI = module.app

        @app.get("/asyncio")
        async def own() -> None:
            async with asyncio.timeout(0):
                await asyncio.sleep(5)

        @app.get("/aiohttp")
        async def other() -> None:
            total = aiohttp.ClientTimeout(total=0.1)
            async with aiohttp.ClientSession(timeout=total) as session:
                await session.get(f"http://{address}")

        async with (
            serving(app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
        ):
            for path in ("/asyncio", "/aiohttp"):
                answer = await client.get(path)
                assert answer.status_code == 503
                assert "database" not in answer.text.lower()


async def test_the_time_to_open_a_connection_is_bounded_by_the_driver_only() -> None:
    async def connect(address: str, **connect_args: object) -> None:
        url = f"postgresql+asyncpg://postgres@{address}/orders"
        engine = create_async_engine(url, pool_timeout=0.1, connect_args={**connect_args})
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        finally:
            await engine.dispose()

    async with _silent() as address:
        unbounded = asyncio.ensure_future(connect(address))
        await asyncio.wait({unbounded}, timeout=1)
        assert not unbounded.done()
        unbounded.cancel()
        await asyncio.wait({unbounded})
        async with asyncio.timeout(10) as limit:
            with pytest.raises(TimeoutError) as raised:
                await connect(address, timeout=0.3)
        assert not limit.expired()
        assert type(raised.value) is TimeoutError
