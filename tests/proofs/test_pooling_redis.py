"""The default pool of redis-py refuses what is beyond its limit; a blocking one lets it wait."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio import Redis as Client

from tests.proofs.harness import Block, Witness
from tests.services import Redis, free_port, proxied
from tests.services.process import HOST

AT_ONCE, LIMIT = 40, 10
NEW = int(redis.__version__.split(".")[0]) >= 8


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a blocking pool is told; it gets a tenth of the seconds."""
    given: dict[str, Any] = {}
    make = BlockingConnectionPool.from_url

    def make_hurried(url: str, **options: Any) -> Any:
        given.update(options)
        for name in ("timeout", "socket_timeout", "socket_connect_timeout"):
            if name in options:
                options[name] /= 10
        return make(url, **options)

    monkeypatch.setattr(BlockingConnectionPool, "from_url", make_hurried)
    return given


@asynccontextmanager
async def _running(block: Block, url: str) -> AsyncIterator[Any]:
    """The block's client, while its application runs."""
    module = block.run(redis_url=url)
    async with module.lifespan(module.app):
        yield module.app.state.cache


@asynccontextmanager
async def _client(server: Redis) -> AsyncIterator[Any]:
    """A client that is not under test."""
    async with Client.from_url(server.url, decode_responses=True) as client:
        yield client


async def _connections(server: Redis, expected: int) -> int:
    """How many others are connected, once it is as expected; the server notices a close late."""
    async with _client(server) as client:
        for _ in range(100):
            others = len(await client.client_list()) - 1
            if others == expected:
                break
            await asyncio.sleep(0.01)
    return others


async def _burst(block: Block, server: Redis) -> tuple[list[Any], int, int]:
    """The answers in the order in which they come, and the connections before and after the stop."""
    answers: list[Any] = []
    async with _client(server) as client:
        await client.set("price:7", "19.90")
    module = block.run(redis_url=server.url)
    async with module.app.router.lifespan_context(module.app):

        async def get() -> None:
            try:
                answers.append(await module.app.state.cache.get("price:7"))
            except redis.exceptions.RedisError as error:
                answers.append(error)

        async with asyncio.timeout(20):
            await asyncio.gather(*(get() for _ in range(AT_ONCE)))
        opened = await _connections(server, LIMIT)
    return answers, opened, await _connections(server, 0)


async def test_incorrect_refuses_at_once_what_is_beyond_its_limit(
    incorrect: Block, redis_server: Redis, witness: Witness
) -> None:
    with pytest.warns(DeprecationWarning, match="aclose") as warned:
        answers, opened, left = await _burst(incorrect, redis_server)
    refused, answered = answers[: AT_ONCE - LIMIT], answers[AT_ONCE - LIMIT :]
    assert {str(error) for error in refused} == {"Too many connections"}
    assert isinstance(refused[0], redis.exceptions.ConnectionError)
    assert (answered, opened, left) == (["19.90"] * LIMIT, LIMIT, 0)
    witness.saw(*refused, *(f"{each.category.__name__}: {each.message}" for each in warned))
    witness.observed(incorrect="40 GETs at once on 10 connections: 30 refused, 10 answered")


async def test_correct_lets_them_wait(
    correct: Block, redis_server: Redis, witness: Witness
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers, opened, left = await _burst(correct, redis_server)
    assert (answers, opened, left) == (["19.90"] * AT_ONCE, LIMIT, 0)
    witness.observed(correct="40 GETs at once on 10 connections: 40 answered; 0 open after aclose")


async def test_correct_bounds_the_wait_for_a_connection(
    correct: Block, redis_server: Redis, witness: Witness, asked: dict[str, Any]
) -> None:
    async with asyncio.timeout(4), _running(correct, redis_server.url) as cache:
        pool = cache.connection_pool
        command = () if NEW else ("GET",)
        out = [await pool.get_connection(*command) for _ in range(LIMIT)]
        try:
            with pytest.raises(redis.exceptions.ConnectionError) as raised:
                await cache.get("price:7")
        finally:
            for each in out:
                await pool.release(each)
    witness.saw(raised.value)
    assert "No connection available." in str(raised.value)
    assert asked["timeout"] == 1


async def test_correct_ends_a_command_that_gets_no_answer_although_it_has_run(
    correct: Block, redis_server: Redis, witness: Witness, asked: dict[str, Any]
) -> None:
    async with proxied(redis_server.port) as proxy, asyncio.timeout(10):
        address = redis_server.url.replace(str(redis_server.port), str(proxy.port))
        async with _running(correct, address) as cache:
            await cache.set("stock", 0)
            proxy.answering.clear()
            with pytest.raises(redis.exceptions.TimeoutError) as raised:
                await cache.incr("stock")
            witness.saw(raised.value)
            proxy.answering.set()
    async with _client(redis_server) as client:
        assert await client.get("stock") == "1"
    assert asked["socket_timeout"] == 2


async def test_correct_bounds_the_opening_of_a_connection_but_for_the_oldest_redis_py(
    correct: Block, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    async def never(*_: object, **__: object) -> Any:
        await asyncio.Event().wait()

    # As where packets to the server are dropped: the connect itself has no answer.
    monkeypatch.setattr(asyncio, "open_connection", never)
    async with _running(correct, f"redis://{HOST}:{free_port()}") as cache:
        getting = asyncio.ensure_future(cache.get("price:7"))
        await asyncio.wait({getting}, timeout=10 if NEW else 1)
        ended = getting.done()
        while not getting.done():  # the pool of redis-py 5.0.1 waits for its own lock
            getting.cancel()
            await asyncio.wait({getting}, timeout=0.1)
    assert ended is NEW
    if NEW:
        assert "Timeout connecting" in str(getting.exception())
    assert asked["socket_connect_timeout"] == 2


async def test_a_socket_timeout_ends_a_blocking_command_before_its_own_timeout(
    redis_server: Redis,
) -> None:
    async with Client.from_url(redis_server.url, socket_timeout=0.2) as client:
        async with asyncio.timeout(4):
            with pytest.raises(redis.exceptions.TimeoutError, match="Timeout reading"):
                await client.blpop(["jobs"], timeout=5)
    async with Client.from_url(redis_server.url, socket_timeout=None) as client:
        assert await client.blpop(["jobs"], timeout=1) is None


async def test_a_blocking_command_keeps_its_connection_and_the_wait_for_one_is_bounded(
    redis_server: Redis, witness: Witness
) -> None:
    pool = BlockingConnectionPool.from_url(redis_server.url, max_connections=1, timeout=0.2)
    async with (
        Client.from_pool(pool) as client,
        _client(redis_server) as other,
        asyncio.timeout(20),
    ):
        jobs: Any = asyncio.ensure_future(client.blpop(["jobs"], timeout=10))
        while not any(each["cmd"] == "blpop" for each in await other.client_list()):
            await asyncio.sleep(0.01)
        with pytest.raises(redis.exceptions.ConnectionError) as raised:
            await client.get("price:7")
        witness.saw(raised.value)
        assert not jobs.done()
        await other.rpush("jobs", "7")
        assert await jobs == (b"jobs", b"7")
        await client.get("price:7")


@pytest.mark.parametrize(("from_pool", "left"), [(True, 0), (False, 1)])
async def test_only_from_pool_closes_the_pool(
    redis_server: Redis, from_pool: bool, left: int
) -> None:
    pool = BlockingConnectionPool.from_url(redis_server.url)
    client = Client.from_pool(pool) if from_pool else Client(connection_pool=pool)
    await client.ping()
    await client.aclose()
    assert await _connections(redis_server, left) == left
    await pool.aclose()
    assert await _connections(redis_server, 0) == 0


async def test_the_defaults_are_those_that_the_rule_names(redis_server: Redis) -> None:
    plain: Any = ConnectionPool.from_url(redis_server.url)
    blocking: Any = BlockingConnectionPool.from_url(redis_server.url)
    connection = plain.make_connection()
    times = connection.socket_timeout, connection.socket_connect_timeout
    assert (plain.max_connections, times) == ((100, (5, 5)) if NEW else (2**31, (None, None)))
    assert (blocking.max_connections, blocking.timeout) == (50, 20)
