"""Readiness tells what is down by its status and in bounded time only over its own connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis as RedisClient
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres, Redis, free_port, serving


@dataclass(frozen=True)
class Service:
    """A running service and what it was given."""

    client: httpx.AsyncClient
    engine: AsyncEngine

    async def ready(self, path: str = "/ready", timeout: float = 10) -> tuple[int, dict[str, str]]:
        answer = await self.client.get(path, timeout=timeout)
        return answer.status_code, answer.json()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that the test may stop."""
    with Postgres() as server:
        yield server


@asynccontextmanager
async def _service(block: Block, database_url: str, redis_url: str) -> AsyncIterator[Service]:
    """Serve the block with a pool of one connection, and the default pool_timeout of 30 s."""
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0)
    cache = RedisClient.from_url(redis_url)
    module = block.run(engine=engine, cache=cache)
    try:
        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            yield Service(client, engine)
    finally:
        await cache.aclose()
        await engine.dispose()


@asynccontextmanager
async def _hanging() -> AsyncIterator[str]:
    """Give the address of a server that takes connections and never answers, until the end."""
    released = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/orders"
    finally:
        released.set()
        server.close()


async def test_incorrect_answers_200_without_a_database(
    incorrect: Block, own_postgres: Postgres, redis_server: Redis, witness: Witness
) -> None:
    url = own_postgres.url(driver="asyncpg")
    async with _service(incorrect, url, redis_server.url) as service:
        assert await service.ready() == (200, {"status": "healthy"})
        own_postgres.stop()
        assert await service.ready() == (200, {"status": "unhealthy"})
    witness.observed(
        incorrect="database down: 200; hanging, or pool exhausted: no answer in 1 s"
    )


async def test_correct_answers_503_without_a_database_and_200_with_it(
    correct: Block, own_postgres: Postgres, redis_server: Redis, witness: Witness
) -> None:
    url = own_postgres.url(driver="asyncpg")
    async with _service(correct, url, redis_server.url) as service:
        assert await service.ready() == (200, {"database": "up", "cache": "up"})
        own_postgres.stop()
        assert await service.ready() == (503, {"database": "down", "cache": "up"})
        assert await service.ready("/live") == (200, {"process": "up"})
        own_postgres.start()
        assert await service.ready() == (200, {"database": "up", "cache": "up"})
    witness.observed(correct="database down: 503; hanging: 503; pool exhausted: 200")


async def test_incorrect_does_not_answer_while_the_database_hangs(
    incorrect: Block, redis_server: Redis
) -> None:
    async with _hanging() as url, _service(incorrect, url, redis_server.url) as service:
        with pytest.raises(httpx.ReadTimeout):
            await service.ready(timeout=1)
