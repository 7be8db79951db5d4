"""Readiness tells what is down by its status and in bounded time only over its own connection."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy
from fastapi import FastAPI, Response
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
    correct: Block, stoppable: Postgres, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stoppable.start()
    async with _service(correct, stoppable.url(driver="asyncpg"), redis_server.url) as service:
        assert await service.ask() == (200, {"database": "up", "cache": "up"})
        stoppable.stop()
        assert await service.ask() == (503, {"database": "down", "cache": "up"})
        assert "database is down" in caplog.messages
        assert "ConnectionRefusedError" in caplog.text
        assert await service.ask("/live") == (200, {"process": "up"})
        stoppable.start()
        assert await service.ask() == (200, {"database": "up", "cache": "up"})


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


@asynccontextmanager
async def _counted(
    block: Block, database_url: str, redis_url: str
) -> AsyncIterator[tuple[Any, httpx.AsyncClient, list[str]]]:
    """The block's module, a client of its app, and a list of what its probe opens and closes."""
    events: list[str] = []
    module = block.run(database_url=database_url, redis_url=redis_url)
    for name in ("connect", "close"):
        event.listen(module.probe.sync_engine, name, lambda *_, name=name: events.append(name))
    async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
        yield module, client, events


async def test_200_checks_at_once_are_200_over_one_connection(
    correct: Block, stoppable: Postgres, redis_server: Redis, witness: Witness
) -> None:
    stoppable.start()
    url = stoppable.url(driver="asyncpg")
    async with _counted(correct, url, redis_server.url) as (_, client, events):
        answers = await asyncio.gather(*(client.get("/ready", timeout=30) for _ in range(200)))
        assert [answer.status_code for answer in answers] == [200] * 200
        assert events == ["connect"]
    assert events == ["connect", "close"]  # at the stop
    witness.observed(
        correct="database stopped: 503; database hangs: 503; pool exhausted: 200; "
        "200 checks at once: 200 of 200 are 200, over 1 connection"
    )


async def test_a_check_that_comes_later_asks_again_over_the_same_connections(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    async with _counted(correct, database.url(), redis_server.url) as (module, client, events):
        for _ in range(3):
            assert (await client.get("/ready")).status_code == 200
        assert events == ["connect"]
        assert len(module.cache.connection_pool._available_connections) == 1
        await _cut(database)
        assert (await client.get("/ready")).json() == {"database": "up", "cache": "up"}
        assert events == ["connect", "close", "connect"]
    assert events[3:] == ["close"]
    assert not any(
        each.is_connected for each in module.cache.connection_pool._available_connections
    )


async def _cut(database: Database) -> None:
    """End the connections of the service, as a failover does."""
    others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = $1"
    await database.execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}",
        "client backend",
    )


async def test_a_caller_that_is_cancelled_leaves_the_check_to_the_others(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a bare generator as a lifespan is deprecated
        module = correct.run(database_url=database.url(), redis_url=redis_server.url)
    begun, go = asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        begun.set()
        await go.wait()

    module.CHECKS = {"database": ask}
    first, second = (asyncio.create_task(module.ready(Response())) for _ in range(2))
    await begun.wait()
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert first.cancelled()
    assert await second == {"database": "up"}
    go.clear()
    asking = asyncio.create_task(module.state("database"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()


async def test_a_cache_that_went_silent_is_up_again_once_it_answers(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    async with proxied(redis_server.port) as proxy:
        url = redis_server.url.replace(str(redis_server.port), str(proxy.port))
        async with _counted(correct, database.url(), url) as (module, client, _):
            module.LIMIT = 0.3
            answers = []
            for answering in (True, False, True):
                (proxy.answering.set if answering else proxy.answering.clear)()
                answers.append((await client.get("/ready", timeout=30)).json()["cache"])
    assert answers == ["up", "down", "up"]


async def test_the_answer_takes_twice_the_limit_where_a_connected_database_goes_silent(
    correct: Block, database: Database, redis_server: Redis
) -> None:
    loop = asyncio.get_running_loop()
    took = []
    given = {"database_url": database.url(), "redis_url": redis_server.url}
    assert correct.run(**given).LIMIT == 2  # as long as SQLAlchemy lets asyncpg close
    async with proxied(database.server.port) as proxy:
        url = database.url().replace(str(database.server.port), str(proxy.port))
        for connected in (False, True):
            async with _service(correct, url, redis_server.url) as service:
                if connected:
                    assert await service.ask() == (200, {"database": "up", "cache": "up"})
                proxy.answering.clear()
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
