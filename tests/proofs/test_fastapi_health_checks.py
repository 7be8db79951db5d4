"""Readiness tells what is down by its status and in bounded time only over its own connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import sqlalchemy
from fastapi import FastAPI
from redis.asyncio import Redis as RedisClient
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres, Redis, free_port, proxied, serving


@dataclass(frozen=True)
class Service:
    """A running service and what it was given."""

    client: httpx.AsyncClient
    engine: AsyncEngine

    async def ask(self, path: str = "/ready", timeout: float = 10) -> tuple[int, dict[str, str]]:
        answer = await self.client.get(path, timeout=timeout)
        return answer.status_code, answer.json()


@pytest.fixture(scope="module")
def stoppable() -> Iterator[Postgres]:
    """A PostgreSQL that the tests may stop, for at most five clients."""
    with Postgres(max_connections=5, settings={"max_wal_senders": 0}) as server:
        yield server


@asynccontextmanager
async def _service(block: Block, database_url: str, redis_url: str) -> AsyncIterator[Service]:
    """Serve the block with a pool of one connection, and the default pool_timeout of 30 s."""
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0)
    cache = RedisClient.from_url(redis_url)
    given = {
        "engine": engine,
        "cache": cache,
        "database_url": database_url,
        "redis_url": redis_url,
    }
    module = block.run(**{name: given[name] for name in block.given})
    try:
        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            yield Service(client, engine)
    finally:
        await cache.aclose()
        await engine.dispose()


@dataclass(frozen=True)
class Hanging:
    """A server that takes connections and never answers, until it is released."""

    url: str
    release: Callable[[], None]


@asynccontextmanager
async def _hanging() -> AsyncIterator[Hanging]:
    released = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Hanging(f"postgresql+asyncpg://postgres@127.0.0.1:{port}/orders", released.set)
    finally:
        released.set()
        server.close()
        await server.wait_closed()


async def test_incorrect_answers_200_without_a_database(
    incorrect: Block, stoppable: Postgres, redis_server: Redis, witness: Witness
) -> None:
    stoppable.start()
    async with _service(incorrect, stoppable.url(driver="asyncpg"), redis_server.url) as service:
        assert await service.ask() == (200, {"status": "healthy"})
        stoppable.stop()
        assert await service.ask() == (200, {"status": "unhealthy"})
    witness.observed(
        incorrect="database stopped: 200; database hangs or pool exhausted: no answer in 3 s"
    )


async def test_correct_answers_503_without_a_database_and_200_with_it(
    correct: Block, stoppable: Postgres, redis_server: Redis, witness: Witness
) -> None:
    stoppable.start()
    async with _service(correct, stoppable.url(driver="asyncpg"), redis_server.url) as service:
        assert await service.ask() == (200, {"database": "up", "cache": "up"})
        stoppable.stop()
        assert await service.ask() == (503, {"database": "down", "cache": "up"})
        assert await service.ask("/live") == (200, {"process": "up"})
        stoppable.start()
        assert await service.ask() == (200, {"database": "up", "cache": "up"})
    witness.observed(correct="database stopped: 503; database hangs: 503; pool exhausted: 200")


async def test_incorrect_does_not_answer_where_the_database_hangs_or_the_pool_is_exhausted(
    incorrect: Block, database: Database, redis_server: Redis
) -> None:
    async with (
        _hanging() as hanging,
        _service(incorrect, hanging.url, redis_server.url) as hung,
        _service(incorrect, database.url(), redis_server.url) as exhausted,
    ):
        async with exhausted.engine.connect():
            answers = await asyncio.gather(
                *(each.ask(timeout=3) for each in (hung, exhausted)), return_exceptions=True
            )
        hanging.release()
    assert [type(each) for each in answers] == [httpx.ReadTimeout, httpx.ReadTimeout]


async def test_correct_answers_where_the_database_hangs_or_the_pool_is_exhausted(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    async with (
        _hanging() as hanging,
        _service(correct, hanging.url, redis_server.url) as hung,
        _service(correct, database.url(), redis_server.url) as exhausted,
    ):
        async with exhausted.engine.connect():
            answers = await asyncio.gather(
                *(each.ask(timeout=5) for each in (hung, exhausted)), return_exceptions=True
            )
        hanging.release()
    assert answers == [
        (503, {"database": "down", "cache": "up"}),
        (200, {"database": "up", "cache": "up"}),
    ]


async def _flood(block: Block, few: Postgres, redis: Redis) -> tuple[set[int], int]:
    """The statuses of 20 checks at once for a healthy database, and the most connections."""
    now = most = 0
    given = {"database_url": few.url(driver="asyncpg"), "redis_url": redis.url}
    module = block.run(**given)

    def opened(*_: object) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)

    def closed(*_: object) -> None:
        nonlocal now
        now -= 1

    event.listen(module.probe.sync_engine, "connect", opened)
    event.listen(module.probe.sync_engine, "close", closed)
    async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
        answers = await asyncio.gather(*(client.get("/ready", timeout=30) for _ in range(20)))
    return {answer.status_code for answer in answers}, most


async def test_a_flood_of_checks_takes_one_connection(
    correct: Block, stoppable: Postgres, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stoppable.start()
    assert await _flood(correct, stoppable, redis_server) == ({200}, 1)
    assert "async with one_at_a_time, probe" in correct.code
    code = correct.code.replace("async with one_at_a_time, probe", "async with probe")
    statuses, _ = await _flood(replace(correct, code=code), stoppable, redis_server)
    assert 503 in statuses
    assert "sorry, too many clients already" in caplog.text


async def test_the_answer_takes_twice_the_limit_where_a_connected_database_goes_silent(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    loop = asyncio.get_running_loop()
    took = []
    async with proxied(database.server.port) as proxy:
        url = database.url().replace(str(database.server.port), str(proxy.port))
        for sent in (b"user", b"SELECT 1"):  # while it connects, and later
            async with _service(correct, url, redis_server.url) as service:
                proxy.silent_after = sent
                started = loop.time()
                assert await service.ask(timeout=30) == (503, {"database": "down", "cache": "up"})
                took.append(loop.time() - started)
                proxy.answering.set()
    waits_for_asyncpg = sqlalchemy.__version__ != "2.0.0"
    assert (1.5 < took[1] / took[0] < 3) is waits_for_asyncpg


async def test_every_critical_dependency_counts(correct: Block, database: Database) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    async with _service(correct, database.url(), nobody) as service:
        assert await service.ask() == (503, {"database": "up", "cache": "down"})


async def test_a_returned_pair_is_sent_as_a_list_with_status_200() -> None:
    app = FastAPI()

    @app.get("/")
    async def ready() -> Any:
        return {"status": "unhealthy"}, 503

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()) == (200, [{"status": "unhealthy"}, 503])
