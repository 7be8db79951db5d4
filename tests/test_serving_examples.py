"""The chat of examples/serving-examples.md, run as it stands in several processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from redis.asyncio import Redis as Client

from tests.services import Program, Redis, serving_process
from tests.test_examples import program, shows

__all__ = ["program"]  # the fixture
LIMIT = 30.0  # seconds for whatever must come


@dataclass
class Chat:
    """Processes that serve the same rooms; the first has two workers."""

    programs: list[Program]

    def talk(self, process: int, room: str = "a") -> Any:
        url = self.programs[process].url.replace("http", "ws")
        return websockets.connect(f"{url}/rooms/{room}", compression=None, close_timeout=0.2)

    @asynccontextmanager
    async def follow(self, process: int, room: str = "a") -> AsyncIterator[Any]:
        """The events of a room, once the stream is open."""
        async with (
            httpx.AsyncClient(base_url=self.programs[process].url, timeout=LIMIT) as client,
            client.stream("GET", f"/rooms/{room}/events") as answer,
        ):
            lines = (line async for line in answer.aiter_lines() if line)
            assert await anext(lines) == ": here"
            yield lines


@asynccontextmanager
async def chatting(program: Path, redis: Redis) -> AsyncIterator[Chat]:
    """Both processes, once every worker listens."""
    with ExitStack() as stack:
        programs = []
        for workers in (2, 1):
            env = {"REDIS_URL": redis.url, "WORKERS": str(workers)}
            command = ["env", "PORT={port}", sys.executable, program.name]
            started = serving_process(command, cwd=program.parent, env=env, path="/openapi.json")
            programs.append(stack.enter_context(started))
        await _listening(redis, 3)
        yield Chat(programs)


async def _listening(redis: Redis, processes: int) -> None:
    async with Client.from_url(redis.url) as client, asyncio.timeout(LIMIT):
        while len(await client.client_list(_type="pubsub")) < processes:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@shows("serving-examples", 0)
async def test_who_is_in_a_room_of_any_process_gets_what_is_said_and_no_other_room(
    program: Path, redis_server: Redis
) -> None:
    async with (
        chatting(program, redis_server) as chat,
        AsyncExitStack() as stack,
        asyncio.timeout(2 * LIMIT),
    ):
        talkers = [await stack.enter_async_context(chat.talk(n)) for n in (0, 0, 0, 1)]
        elsewhere = await stack.enter_async_context(chat.talk(0, "b"))
        lines = await stack.enter_async_context(chat.follow(1))
        await talkers[0].send("one\ntwo")
        assert [await each.recv() for each in talkers] == ["one\ntwo"] * 4
        assert await anext(lines) == 'data: "one\\ntwo"'
        async with Client.from_url(redis_server.url) as client, client.pipeline() as burst:
            for number in range(300):
                burst.publish("room:a", str(number))
            await burst.execute()
        for each in talkers:
            assert [await each.recv() for _ in range(300)] == [str(n) for n in range(300)]
        assert [json.loads((await anext(lines))[6:]) for _ in range(300)][-1] == "299"
        await elsewhere.send("alone")
        assert await elsewhere.recv() == "alone"
        with pytest.raises(websockets.InvalidStatus):
            async with chat.talk(0, "A_room"):
                pass


@shows("serving-examples", 0)
async def test_who_stops_reading_is_let_go_and_holds_nobody_up(
    program: Path, redis_server: Redis
) -> None:
    large = "x" * 65_536
    async with (
        chatting(program, redis_server) as chat,
        chat.talk(1) as talker,
        chat.talk(1) as stalled,
        asyncio.timeout(2 * LIMIT),
    ):
        async with chat.follow(1):  # reads no further
            for _ in range(300):
                await talker.send(large)
                assert await talker.recv() == large
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await stalled.recv()
        assert stalled.close_code == 1013


@shows("serving-examples", 0)
async def test_after_a_restart_of_redis_it_goes_on_and_sigterm_ends_open_streams(
    program: Path,
) -> None:
    with Redis() as redis:
        async with chatting(program, redis) as chat, asyncio.timeout(3 * LIMIT):
            async with chat.talk(0) as talker, chat.talk(1) as other, chat.follow(1) as lines:
                redis.stop()
                redis.start()
                await _listening(redis, 3)
                await talker.send("hello")
                assert [await each.recv() for each in (talker, other)] == ["hello"] * 2
                assert await anext(lines) == 'data: "hello"'
                for each in chat.programs:
                    each.process.terminate()
                    await asyncio.to_thread(each.process.wait, LIMIT)
                for each in (talker, other):
                    with pytest.raises(websockets.ConnectionClosed):
                        await each.recv()
                    assert each.close_code == 1012
            assert "not listening" in chat.programs[1].output()
