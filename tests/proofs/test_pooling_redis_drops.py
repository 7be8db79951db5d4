"""A command that ran before its answer was lost runs again where redis-py repeats it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.proofs.harness import Block, Witness
from tests.services import Redis
from tests.services.process import HOST

NEW = int(redis.__version__.split(".")[0]) >= 8
FIRST, SECOND = UUID(int=1), UUID(int=2)
ERRORS: list[type[Exception]] = [redis.exceptions.ConnectionError, redis.exceptions.TimeoutError]


class Network:
    """What lies before the server: loses the answers to commands that name `sales`."""

    def __init__(self) -> None:
        self.port = self.opened = self.losses = 0
        self.how = "close"  # or "reset", or "silence"
        self.down = False
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any] | None] = set()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def end_connections(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def connected(
        self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._tasks.add(asyncio.current_task())
        self.opened += 1
        if self.down:
            writer.close()
            return
        there, back = await asyncio.open_connection(HOST, to)
        self._writers += writer, back
        lost = False

        async def requests() -> None:
            nonlocal lost
            while data := await reader.read(65536):
                if b"sales" in data and self.losses:
                    self.losses -= 1
                    lost = True
                back.write(data)
            back.close()

        async def answers() -> None:
            while data := await there.read(65536):
                if lost and self.how == "silence":
                    continue
                if lost:
                    break
                writer.write(data)
            if lost and self.how == "reset":
                # Closed with nothing to wait for, TCP sends a reset.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            writer.close()
            back.close()

        with suppress(OSError):
            await asyncio.gather(requests(), answers())

    async def ended(self) -> None:
        self.end_connections()
        for task in self._tasks:
            if task:
                task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)


@asynccontextmanager
async def _before(server: Redis) -> AsyncIterator[Network]:
    network = Network()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await network.connected(server.port, reader, writer)

    listener = await asyncio.start_server(connected, HOST, 0)
    network.port = listener.sockets[0].getsockname()[1]
    async with Client.from_url(server.url) as client:
        await client.flushdb()
    try:
        yield network
    finally:
        listener.close()
        await network.ended()


def _repeating(times: int) -> dict[str, Any]:
    """Options of a client that sends a command again so many times, without a pause."""
    return {"retry": Retry(NoBackoff(), times), "retry_on_error": ERRORS}


async def _sales(server: Redis) -> int:
    async with Client.from_url(server.url) as client:
        return int(await client.get("sales") or 0)


@asynccontextmanager
async def _shop(block: Block, network: Network) -> AsyncIterator[tuple[Any, Any]]:
    """The block's module and its client; a socket that falls silent is given up in a tenth."""
    module = block.run(redis_url=network.url)
    async with module.make_client() as client:
        kwargs = client.connection_pool.connection_kwargs
        kwargs["socket_timeout"] /= 10
        yield module, client


async def test_incorrect_counts_a_sale_twice_whose_answer_was_lost(
    incorrect: Block, redis_server: Redis, witness: Witness
) -> None:
    async with _before(redis_server) as network, _shop(incorrect, network) as (module, client):
        network.losses = 1
        async with asyncio.timeout(10):
            assert await module.count_sale(client, FIRST) == 2
    assert await _sales(redis_server) == 2
    witness.observed(incorrect="1 sale, its answer lost: repeated by redis-py, 2 counted")


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_correct_counts_it_once(
    correct: Block, redis_server: Redis, witness: Witness, how: str
) -> None:
    async with _before(redis_server) as network, _shop(correct, network) as (module, client):
        network.losses, network.how = 2, how
        async with asyncio.timeout(10):
            counts = [await module.count_sale(client, each) for each in (FIRST, SECOND, FIRST)]
    assert network.losses == 0
    assert counts == [1, 2, 2]
    assert await _sales(redis_server) == 2
    witness.observed(correct="1 sale, its answer lost twice: repeated by redis-py, 1 counted")


async def test_correct_remembers_an_order_for_a_day(correct: Block, redis_server: Redis) -> None:
    async with _before(redis_server) as network, _shop(correct, network) as (module, client):
        await module.count_sale(client, FIRST)
        (key,) = await client.keys("*:*")
        left = await client.pttl(key)
    assert 86_340_000 < left <= 86_400_000


async def test_correct_counts_an_order_whose_first_script_failed(
    correct: Block, redis_server: Redis
) -> None:
    async with _before(redis_server) as network, _shop(correct, network) as (module, client):
        await client.set("sales", "not a number")
        with pytest.raises(redis.exceptions.ResponseError):
            await module.count_sale(client, FIRST)
        await client.delete("sales")
        assert await module.count_sale(client, FIRST) == 1
        await client.delete("sales")
        assert await module.count_sale(client, FIRST) == 0


async def test_correct_survives_a_restart_of_the_server(correct: Block) -> None:
    with Redis() as own:
        async with _before(own) as network, _shop(correct, network) as (module, client):
            for each in (FIRST, SECOND):
                await module.count_sale(client, each)
            own.stop()
            own.start()
            # Redis kept nothing, since it is told not to; a sale counts again.
            assert await module.count_sale(client, FIRST) == 1
            network.losses = 1
            assert await module.count_sale(client, SECOND) == 2
            assert await _sales(own) == 2


async def test_correct_bounds_all_attempts_together_and_its_pool_stays_usable(
    correct: Block, redis_server: Redis
) -> None:
    told: list[float] = []

    def hurried(seconds: float) -> Any:
        told.append(seconds)
        return asyncio.timeout(seconds / 20)

    async with _before(redis_server) as network, _shop(correct, network) as (module, client):
        module.asyncio = SimpleNamespace(timeout=hurried)
        network.losses, network.how = 4, "silence"
        client.connection_pool.connection_kwargs["socket_timeout"] = 1
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                await module.count_sale(client, FIRST)
            network.losses = 0
            module.asyncio = asyncio
            assert await module.count_sale(client, SECOND) == 2
            assert await module.count_sale(client, FIRST) == 2
    assert told == [3]


async def test_correct_bounds_its_pool_and_its_sockets(correct: Block) -> None:
    async with correct.run(redis_url="redis://127.0.0.1:1/0").make_client() as client:
        pool: Any = client.connection_pool
        kwargs = pool.connection_kwargs
    assert isinstance(pool, BlockingConnectionPool)
    assert (pool.max_connections, pool.timeout) == (10, 1)
    assert (kwargs["socket_connect_timeout"], kwargs["socket_timeout"]) == (1, 1)
    assert set(kwargs["retry_on_error"]) == set(ERRORS)
    retry = kwargs["retry"]
    assert retry._retries == 3
    assert retry._backoff.compute(1) != retry._backoff.compute(1)
    waits = [retry._backoff.compute(failures) for failures in (1, 4, 9) for _ in range(200)]
    assert 0.1 < max(waits[:200]) <= 0.2
    assert 0.9 < max(waits[200:]) <= 1


MAKERS: dict[str, Any] = {
    "host": lambda network, **options: Client(host=HOST, port=network.port, **options),
    "url": lambda network, **options: Client.from_url(network.url, **options),
    "pool": lambda network, **options: Client.from_pool(
        BlockingConnectionPool.from_url(network.url, **options)
    ),
}


async def _lose_one(server: Redis, maker: str, how: str = "close", **options: Any) -> Any:
    """What INCR gives whose first answer is lost, or its error; and what was counted."""
    async with _before(server) as network, MAKERS[maker](network, **options) as client:
        network.losses, network.how = 1, how
        try:
            outcome = await client.incr("sales")
        except redis.exceptions.RedisError as error:
            outcome = error
    return outcome, await _sales(server)


@pytest.mark.parametrize(("maker", "repeats"), [("host", NEW), ("url", False), ("pool", False)])
async def test_only_a_client_made_from_a_host_repeats_by_default_and_only_since_redis_py_8_1(
    redis_server: Redis, witness: Witness, maker: str, repeats: bool
) -> None:
    outcome, counted = await _lose_one(redis_server, maker)
    assert counted == (2 if repeats else 1)
    if repeats:
        default: Any = Client(host=HOST).get_retry()
        assert default._retries == 10
    else:
        witness.saw(outcome)
        assert "Connection closed by server." in str(outcome)


@pytest.mark.parametrize("maker", MAKERS)
async def test_redis_py_5_0_1_repeats_a_command_only_with_retry_on_error_too(
    redis_server: Redis, maker: str
) -> None:
    retry = Retry(NoBackoff(), 3)
    assert (await _lose_one(redis_server, maker, retry=retry))[1] == (2 if NEW else 1)
    both: dict[str, Any] = {"retry": retry, "retry_on_error": ERRORS}
    assert (await _lose_one(redis_server, maker, **both))[1] == 2


@pytest.mark.parametrize("options", [{}, {"health_check_interval": 0.01}])
async def test_without_retry_a_connection_that_was_closed_while_idle_fails_the_next_command(
    redis_server: Redis, witness: Witness, options: dict[str, Any]
) -> None:
    for retry in ({}, _repeating(1)):
        async with (
            _before(redis_server) as network,
            Client.from_url(network.url, **options, **retry) as client,
        ):
            await client.set("price:7", "19.90")
            network.end_connections()
            await asyncio.sleep(0.05)
            if retry:
                assert await client.get("price:7") == b"19.90"
                continue
            with pytest.raises(redis.exceptions.ConnectionError) as raised:
                await client.get("price:7")
            witness.saw(raised.value)
            assert await client.get("price:7") == b"19.90"


async def test_a_reset_and_a_refused_connection_have_messages_of_their_own(
    redis_server: Redis, witness: Witness
) -> None:
    reset, counted = await _lose_one(redis_server, "url", "reset")
    assert counted == 1
    witness.saw(reset)
    async with Client.from_url(f"redis://{HOST}:1/0") as client:
        with pytest.raises(redis.exceptions.ConnectionError) as raised:
            await client.ping()
    witness.saw(raised.value)


async def test_redis_py_5_0_1_does_not_repeat_a_first_connect_that_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[object] = []
    connect = asyncio.open_connection

    async def count(*args: Any, **kwargs: Any) -> Any:
        tried.append(args)
        return await connect(*args, **kwargs)

    monkeypatch.setattr(asyncio, "open_connection", count)
    async with Client.from_url(f"redis://{HOST}:1/0", **_repeating(3)) as client:
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.incr("sales")
    assert len(tried) == (4 if NEW else 1)


async def test_what_needs_no_script_leaves_the_same_data_when_it_runs_twice(
    redis_server: Redis,
) -> None:
    async with (
        _before(redis_server) as network,
        Client.from_url(network.url, decode_responses=True, **_repeating(1)) as client,
    ):

        async def losing(command: Any) -> Any:
            network.losses = 1
            return await command

        assert await losing(client.set("sales:last", "7")) is True
        assert await losing(client.sadd("sales:all", "7")) == 0
        assert await losing(client.hset("sales:7", "state", "paid")) == 0
        assert await client.smembers("sales:all") == {"7"}
        assert await client.hgetall("sales:7") == {"state": "paid"}
        assert await losing(client.get("sales:last")) == "7"
        assert await losing(client.delete("sales:last")) == 0
        assert await client.exists("sales:last") == 0


async def test_a_repeated_nx_denies_its_own_key_and_a_repeated_pop_takes_a_second_element(
    redis_server: Redis,
) -> None:
    async with (
        _before(redis_server) as network,
        Client.from_url(network.url, decode_responses=True, **_repeating(1)) as client,
    ):
        network.losses = 1
        assert await client.set("sales:lock", "mine", nx=True, ex=60) is None
        assert await client.get("sales:lock") == "mine"
        pushing: Any = client.rpush("sales:queue", "first", "second")
        await pushing
        network.losses = 1
        popping: Any = client.lpop("sales:queue")
        assert await popping == "second"
        assert await client.exists("sales:queue") == 0
