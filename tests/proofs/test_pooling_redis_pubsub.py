"""Redis closes a subscriber that reads too slowly, and what was published meanwhile is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis as Client
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.proofs.harness import Block, Witness
from tests.services import Redis, proxied
from tests.services.process import HOST

NEW = int(redis.__version__.split(".")[0]) >= 8
MANY, LARGE = 800, b" " * 16_000
SMALL = 5_000


@asynccontextmanager
async def _publisher(server: Redis) -> AsyncIterator[Any]:
    """A client that is not under test; Redis keeps at most 1 MB for a subscriber."""
    async with Client.from_url(server.url) as client:
        before = (await client.config_get("client-output-buffer-limit"))[
            "client-output-buffer-limit"
        ]
        await client.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
        try:
            yield client
        finally:
            await client.config_set("client-output-buffer-limit", str(before))


async def _subscribers(client: Any, expected: int) -> int:
    """How many are subscribed, once it is as expected; at most 5 seconds."""
    count = -1
    for _ in range(500):
        ((_, count),) = await client.pubsub_numsub("prices")
        if count == expected:
            break
        await asyncio.sleep(0.01)
    return count


@contextmanager
def _subscription(prices: Any) -> Iterator[Any]:
    """A queue of the hub; Incorrect leaves it to its callers to make one."""
    if hasattr(prices, "subscription"):
        with prices.subscription() as queue:
            yield queue
        return
    queue = asyncio.Queue(100)
    prices.queues.add(queue)
    yield queue
    prices.queues.discard(queue)


async def _sleep_less(seconds: float) -> None:
    """Wait a tenth; the block waits 1 second before it connects again."""
    assert seconds in (0, 1)
    await asyncio.sleep(seconds / 10)


@asynccontextmanager
async def _listening(block: Block, url: str, client: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The block's hub and the task that listens."""
    module = block.run(redis_url=url)
    module.asyncio = SimpleNamespace(Queue=asyncio.Queue, sleep=_sleep_less)
    prices = module.Prices()
    with _subscription(prices) as first:
        task = asyncio.ensure_future(prices.listen())
        assert await _subscribers(client, 1) == 1
        if hasattr(prices, "_read"):
            async with asyncio.timeout(5):
                assert await first.get() is None
    try:
        yield prices, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, redis.exceptions.RedisError):
            await task


async def _publish(
    client: Any, messages: int = MANY, body: bytes = LARGE, at_once: int = 10
) -> None:
    for start in range(0, messages, at_once):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + at_once):
                pipeline.publish("prices", b"%d" % number + body)
            await pipeline.execute()


async def _read_on(queue: Any, got: list[Any], last: bytes) -> None:
    """What a quick consumer does: it puts all that it gets into `got`, up to the last message."""
    while not got or got[-1] != last:
        message = await queue.get()
        got.append(message.strip() if message else message)


async def test_incorrect_lets_one_slow_consumer_stop_the_others(
    incorrect: Block, redis_server: Redis, witness: Witness
) -> None:
    got: list[Any] = []
    async with (
        _publisher(redis_server) as client,
        _listening(incorrect, redis_server.url, client) as (prices, task),
    ):
        with _subscription(prices) as quick, _subscription(prices) as slow:
            reading = asyncio.ensure_future(_read_on(quick, got, b"%d" % (MANY - 1)))
            await _publish(client)
            assert await _subscribers(client, 0) == 0  # Redis has closed the connection
            async with asyncio.timeout(5):
                while len(got) < 100:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert 100 <= len(got) <= 101
            assert not task.done()
            async with asyncio.timeout(10):
                while not task.done():  # the slow one goes on at last
                    while not slow.empty():
                        slow.get_nowait()
                    await asyncio.sleep(0)
            with pytest.raises(redis.exceptions.ConnectionError) as raised:
                await task
            assert len(got) < MANY
            reading.cancel()
    witness.saw(raised.value)
    witness.observed(
        incorrect="800 messages, 1 of 2 consumers does not read: the other got 101 at most, "
        "then the listener ended"
    )


async def test_correct_serves_the_quick_and_marks_what_the_slow_one_lost(
    correct: Block, redis_server: Redis, witness: Witness
) -> None:
    got: list[Any] = []
    async with (
        _publisher(redis_server) as client,
        _listening(correct, redis_server.url, client) as (prices, _),
    ):
        with _subscription(prices) as quick, _subscription(prices) as slow:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(_read_on(quick, got, b"%d" % (MANY - 1)))
                await _publish(client)
            assert await _subscribers(client, 1) == 1
            kept = [slow.get_nowait() for _ in range(slow.qsize())]
    assert got == [b"%d" % number for number in range(MANY)]
    # Each time that 100 are unread, they make way for None and the next one.
    assert [each and each.strip() for each in kept] == [None, *got[-7:]]
    witness.observed(correct="800 messages, 1 of 2 consumers does not read: the other got 800")


async def test_correct_lets_a_quick_consumer_keep_up_with_a_burst_of_small_messages(
    correct: Block, redis_server: Redis
) -> None:
    got: list[Any] = []
    async with (
        _publisher(redis_server) as client,
        _listening(correct, redis_server.url, client) as (prices, _),
    ):
        with _subscription(prices) as quick, _subscription(prices):
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(_read_on(quick, got, b"%d" % (SMALL - 1)))
                await _publish(client, SMALL, b"", 1000)
    assert got == [b"%d" % number for number in range(SMALL)]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the block read, with the seconds that it waited at most; it waits a fiftieth of them."""
    told: list[Any] = []
    get = PubSub.get_message

    async def get_soon(self: PubSub, *, timeout: float) -> Any:
        message = await get(self, timeout=timeout / 50)
        told.append((timeout, message and message["type"]))
        return message

    monkeypatch.setattr(PubSub, "get_message", get_soon)
    return told


async def test_correct_connects_again_and_marks_the_gap(
    correct: Block, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        _publisher(redis_server) as client,
        _listening(correct, redis_server.url, client) as (prices, _),
    ):
        with _subscription(prices) as queue, caplog.at_level(logging.WARNING):
            async with client.pipeline() as both:
                both.client_kill_filter(_type="pubsub")
                both.publish("prices", b"lost")
                assert await both.execute() == [1, 0]
            async with asyncio.timeout(5):
                assert await queue.get() is None
            await client.publish("prices", b"seen")
            async with asyncio.timeout(5):
                assert await queue.get() == b"seen"
    assert "prices: Connection closed by server." in caplog.text


async def test_correct_notices_a_connection_that_fell_silent_and_a_handshake_without_an_answer(
    correct: Block,
    redis_server: Redis,
    hurried: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[dict[str, Any]] = []
    read: list[int] = []  # how many before each connection
    make = Client.from_url

    def make_hurried(url: str, **options: Any) -> Any:
        told.append(options)
        read.append(len(hurried))
        return make(url, **{name: seconds / 20 for name, seconds in options.items()})

    async with (
        _publisher(redis_server) as client,
        proxied(redis_server.port) as proxy,
    ):
        url = redis_server.url.replace(str(redis_server.port), str(proxy.port))
        monkeypatch.setattr(Client, "from_url", make_hurried)
        async with _listening(correct, url, client) as (prices, _):
            with _subscription(prices) as queue:
                await asyncio.sleep(1)  # three times as long as it waits for a message
                assert queue.empty()  # a PING and its answer keep a quiet connection
                assert len(told) == 1
                proxy.answering.clear()
                async with asyncio.timeout(8):
                    while len(told) < 3:  # the second one got no answer to its handshake
                        await asyncio.sleep(0.01)
                proxy.answering = asyncio.Event()  # what waits for the old one stays silent
                proxy.answering.set()
                async with asyncio.timeout(8):
                    assert await queue.get() is None
    assert {seconds for seconds, _ in hurried} == {15}
    kinds = [kind for _, kind in hurried[: read[1]]]
    assert kinds[0] == "subscribe"
    assert kinds[-3:] == ["pong", None, None]
    assert told[0] == {"socket_connect_timeout": 5, "socket_timeout": 5}


async def test_correct_waits_for_a_server_that_is_not_there_yet(correct: Block) -> None:
    with Redis() as own:
        module = correct.run(redis_url=own.url)
        own.stop()
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await _sleep_less(seconds)

        module.asyncio = SimpleNamespace(Queue=asyncio.Queue, sleep=sleep)
        prices = module.Prices()
        with _subscription(prices) as queue:
            task = asyncio.ensure_future(prices.listen())
            while not pauses:
                await asyncio.sleep(0.01)
            assert not task.done()
            own.start()
            async with asyncio.timeout(5):
                assert await queue.get() is None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert set(pauses) <= {0, 1}
            assert pauses[0] == 1
            async with Client.from_url(own.url) as client:
                assert await _subscribers(client, 0) == 0
                assert len(await client.client_list()) == 1  # its own


async def test_correct_forgets_who_has_left(correct: Block) -> None:
    prices = correct.run(redis_url=f"redis://{HOST}:1").Prices()
    with suppress(OSError), _subscription(prices) as queue:
        prices._pass_on(b"1")
        raise OSError("the client went away")
    prices._pass_on(b"2")
    assert queue.qsize() == 1


async def test_correct_ends_with_an_error_of_its_own_code(
    correct: Block, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError("an error that is not from Redis")

    monkeypatch.setattr(PubSub, "get_message", fail)
    prices = correct.run(redis_url=redis_server.url).Prices()
    async with asyncio.timeout(2):
        with pytest.raises(LookupError):
            await prices.listen()


async def test_with_retry_redis_py_8_1_subscribes_again_and_says_nothing_of_what_was_lost(
    redis_server: Redis,
) -> None:
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 3),
        "retry_on_error": [redis.exceptions.ConnectionError],
    }
    got: list[Any] = []
    async with (
        _publisher(redis_server) as client,
        Client.from_url(redis_server.url, socket_timeout=None, **options) as other,
        other.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        await pubsub.subscribe("prices")
        await pubsub.get_message(timeout=1)
        await client.client_kill_filter(_type="pubsub")
        await client.publish("prices", b"lost")
        for _ in range(20):
            try:
                message = await pubsub.get_message(timeout=0.2)
            except redis.exceptions.ConnectionError as error:
                got.append(str(error))
                continue
            if message:
                got.append(message["data"])
                break
            await client.publish("prices", b"seen")
    assert got == ([b"seen"] if NEW else ["Connection closed by server.", b"seen"])


async def test_the_default_limit_is_the_one_that_the_rule_names() -> None:
    with Redis() as own:
        async with Client.from_url(own.url, decode_responses=True) as client:
            limits = (await client.config_get("client-output-buffer-limit")).values()
    assert f"pubsub {32 * 2**20} {8 * 2**20} 60" in str(limits)
