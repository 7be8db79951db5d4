"""A broadcast that awaits each client in turn goes as the worst client goes; queues do not."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
import websockets
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Served, serving

LARGE = "x" * 65_536
MESSAGES = 300  # of them: more than the buffers between server and client hold
PATIENCE = 5.0  # seconds, for what takes milliseconds


@asynccontextmanager
async def _served(app: Any, **options: Any) -> AsyncIterator[Served]:
    async with serving(app, ws="auto", **options) as served:
        yield served


def _client(served: Served, path: str = "/chat") -> Any:
    url = served.url.replace("http", "ws") + path
    return websockets.connect(url, compression=None, close_timeout=0.2, ping_interval=None)


async def _receive(client: Any, number: int, seconds: float) -> int:
    """How many messages arrive, of `number`, before the client is closed or the time is over."""
    got = 0
    with suppress(TimeoutError, websockets.ConnectionClosed):
        async with asyncio.timeout(seconds):
            while got < number:
                await client.recv()
                got += 1
    return got


async def _until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def _beside_a_dead_socket(module: Any) -> list[tuple[int, bool]]:
    """What Alice and Bob receive of a message from each, and whether they are still connected."""
    async with (
        _served(module.app) as served,
        _client(served) as broken,
        _client(served) as alice,
        _client(served) as bob,
    ):
        await _until(lambda: len(module.clients) == 3)
        await broken.send(b"not a text")
        with pytest.raises(websockets.ConnectionClosed):
            await broken.recv()
        got = dict.fromkeys((alice, bob), 0)
        for speaker in (alice, bob):
            with suppress(websockets.ConnectionClosed):
                await speaker.send("hello")
            if await _receive(speaker, 1, 5):
                got[speaker] += 1
                other = bob if speaker is alice else alice
                got[other] += await _receive(other, 1, 5)
        return [(number, client.close_code is None) for client, number in got.items()]


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged that is more than news of the server, whatever its level is set to."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


async def test_incorrect_throws_out_whoever_speaks_beside_a_dead_socket(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert await _beside_a_dead_socket(incorrect.run()) == [(0, False), (0, False)]
    assert "KeyError: 'text'" in caplog.text
    witness.saw(caplog.text)


async def test_correct_delivers_beside_a_dead_socket(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    module = correct.run()
    assert await _beside_a_dead_socket(module) == [(2, True), (2, True)]
    assert caplog.text.count("Exception in ASGI application") == 1, "that of the broken client"
    assert not module.clients


class _Reader:
    """Reads from a client, and counts."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.got = 0

    async def read(self) -> None:
        with suppress(websockets.ConnectionClosed):
            while self.got < MESSAGES:
                await self.client.recv()
                self.got += 1


async def _beside_one_that_does_not_read(
    module: Any, seconds: float
) -> tuple[int, int, int | None]:
    """What a fast client has after these seconds, and once the other reads; how that one ends."""
    async with (
        _served(module.app) as served,
        _client(served) as stalled,
        _client(served) as talker,
        _client(served) as fast,
    ):
        await _until(lambda: len(module.clients) == 3)
        reader = _Reader(fast)

        async def talk() -> None:
            with suppress(websockets.ConnectionClosed):
                for _ in range(MESSAGES):
                    await talker.send(LARGE)
                    await talker.recv()

        async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(talk())
            reading = group.create_task(reader.read())
            await asyncio.wait([reading], timeout=seconds)
            before = reader.got
            group.create_task(_Reader(stalled).read())
        return before, reader.got, stalled.close_code


async def test_incorrect_sends_to_nobody_while_one_client_does_not_read(
    incorrect: Block, witness: Witness
) -> None:
    before, after, code = await _beside_one_that_does_not_read(incorrect.run(), 0.7)
    assert before < MESSAGES
    assert (after, code) == (MESSAGES, None)
    witness.observed(
        incorrect="beside one dead socket two clients that spoke were thrown out; while one client "
        "did not read, another waited for the rest of 300 messages"
    )


async def test_correct_sends_to_the_others_and_disconnects_who_does_not_read(
    correct: Block, witness: Witness
) -> None:
    result = await _beside_one_that_does_not_read(correct.run(), PATIENCE)
    assert result == (MESSAGES, MESSAGES, 1013)
    witness.observed(
        correct="both clients got both messages beside the dead socket; all 300 arrived while one "
        "client did not read, and that one was closed with 1013"
    )


async def test_a_client_that_is_out_stays_connected_until_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_on_after = anyio.move_on_after
    monkeypatch.setattr(anyio, "move_on_after", lambda seconds: move_on_after(seconds / 50))
    module = RuleFile.load("serving-websockets").block(correct=True).run()
    ended = asyncio.Event()

    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def count(message: Any) -> None:
            await send(message)
            if message["type"] == "websocket.send":
                sent.append(1)

        await module.app(scope, receive, count)
        if scope["type"] == "websocket":
            ended.set()

    async with (
        _served(app, ws_ping_interval=0.05, ws_ping_timeout=0.05) as served,
        _client(served) as stalled,
    ):
        await _until(lambda: module.clients)
        while module.clients:
            await module.broadcast(LARGE)
            await asyncio.sleep(0.001)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        await asyncio.sleep(0.5)  # ten times the two
        assert len(sent) > 10
        assert await _receive(stalled, MESSAGES, PATIENCE) > 10


async def test_to_send_to_all_at_once_still_waits_for_the_slowest() -> None:
    code = RuleFile.load("serving-websockets").block(correct=False)
    loop = "for client in clients:\n        await client.send_text(message)"
    gather = (
        "await asyncio.gather(*(c.send_text(message) for c in clients), return_exceptions=True)"
    )
    assert loop in code.code
    at_once = replace(code, code="import asyncio\n" + code.code.replace(loop, gather))
    before, after, _ = await _beside_one_that_does_not_read(at_once.run(), 0.7)
    assert before < after == MESSAGES


class _Wire:
    """A client of an application without a server between: what it sends, and takes."""

    def __init__(self, app: Any, path: str = "/chat") -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.gone: Exception | None = None
        self.incoming.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
        self.task = asyncio.create_task(app(scope, self.incoming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        await self.takes.wait()
        if self.gone:
            raise self.gone
        self.sent.append(message)

    def texts(self) -> list[str]:
        return [each["text"] for each in self.sent if each["type"] == "websocket.send"]

    def closed(self) -> list[int]:
        return [each["code"] for each in self.sent if each["type"] == "websocket.close"]


async def _burst(module: Any) -> tuple[list[str], list[str]]:
    """What talker and listener receive of a burst of the talker, beside one that takes nothing."""
    slow, talker, listener = wires = [_Wire(module.app) for _ in range(3)]
    await _until(lambda: len(module.clients) == 3)
    slow.takes.clear()
    for number in range(MESSAGES):
        talker.incoming.put_nowait({"type": "websocket.receive", "text": str(number)})
    talker.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    async with asyncio.timeout(PATIENCE):
        await talker.task
    slow.takes.set()
    listener.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(wire.task for wire in wires))
    assert not module.clients
    return talker.texts(), listener.texts()


async def test_a_burst_of_one_client_reaches_all_who_take_it(correct: Block) -> None:
    everything = [str(number) for number in range(MESSAGES)]
    assert await _burst(correct.run()) == (everything, everything)


async def test_a_burst_disconnects_everybody_where_the_senders_have_no_turn() -> None:
    block = RuleFile.load("serving-websockets").block(correct=True)
    assert "await asyncio.sleep(0)" in block.code
    hasty = replace(block, code=block.code.replace("await asyncio.sleep(0)", "pass"))
    assert max(map(len, await _burst(hasty.run()))) <= 100


async def test_who_is_over_100_messages_behind_is_disconnected_within_5_seconds(
    correct: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = correct.run()
    given: list[float] = []
    move_on_after = anyio.move_on_after

    def sooner(seconds: float) -> Any:
        given.append(seconds)
        return move_on_after(seconds / 50)

    monkeypatch.setattr(anyio, "move_on_after", sooner)
    slow, fast = _Wire(module.app), _Wire(module.app)
    await _until(lambda: len(module.clients) == 2)
    slow.takes.clear()
    async with asyncio.timeout(PATIENCE):
        for number in range(101):  # the sender waits with the first of them
            await module.broadcast(str(number))
        await asyncio.sleep(0.01)
        assert len(module.clients) == 2
        await module.broadcast("one more")
        await _until(lambda: len(module.clients) == 1)
        await module.broadcast("after it")
        assert len(fast.texts()) == 103
        await slow.task  # although the client does not even take the close
    assert (given, slow.closed(), slow.texts()) == ([5], [], [])
    slow.takes.set()
    await asyncio.sleep(0.01)
    assert slow.texts() == [], "its sender has ended with it"
    fast.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    async with asyncio.timeout(PATIENCE):
        await fast.task


GONE = (
    OSError("gone"),  # uvicorn's ClientDisconnected is one
    RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'."),
)


@pytest.mark.parametrize("error", GONE, ids=["disconnected", "closed"])
async def test_a_client_that_leaves_while_it_is_sent_to_is_no_error(
    correct: Block, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    module = correct.run()
    left, stays = _Wire(module.app), _Wire(module.app)
    await _until(lambda: len(module.clients) == 2)
    left.gone = error
    await module.broadcast("hello")
    await asyncio.sleep(0)
    assert (left.texts(), stays.texts()) == ([], ["hello"])
    left.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    async with asyncio.timeout(PATIENCE):
        await left.task
    await module.broadcast("again")
    assert (len(module.clients), stays.texts()) == (1, ["hello", "again"])
    stays.gone = error
    stays.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    async with asyncio.timeout(PATIENCE):
        await stays.task
    gc.collect()
    assert not module.clients
    assert _complaints(caplog) == []


async def test_incorrect_fails_whoever_broadcasts_and_who_comes_after_gets_nothing(
    incorrect: Block, witness: Witness
) -> None:
    module = incorrect.run()
    before, dead, after = (_Wire(module.app) for _ in range(3))
    await _until(lambda: len(module.clients) == 3)
    dead.gone = OSError("gone")
    with pytest.raises(WebSocketDisconnect) as disconnected:
        await module.broadcast("one")
    with pytest.raises(RuntimeError, match='Cannot call "send"') as refused:
        await module.broadcast("two")
    witness.saw(disconnected.value, refused.value)
    assert (before.texts(), after.texts()) == (["one", "two"], [])
    for wire in (before, dead, after):
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(before.task, dead.task, after.task)


async def test_after_a_send_that_failed_the_next_receive_raises(witness: Witness) -> None:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            text = await websocket.receive_text()
            with suppress(Exception):
                await websocket.send_text(text)

    wire = _Wire(app, "/echo")
    await _until(lambda: wire.sent)
    wire.gone = OSError("gone")
    wire.incoming.put_nowait({"type": "websocket.receive", "text": "hello"})
    with pytest.raises(RuntimeError, match="WebSocket is not connected") as raised:
        await wire.task
    witness.saw(raised.value)


async def test_a_message_that_the_loop_refuses_closes_that_client_alone(correct: Block) -> None:
    line = "await broadcast(text)"
    assert line in correct.code
    refusing = f"if text == 'bad':\n                    raise WebSocketException(1008)\n                {line}"
    code = "from fastapi import WebSocketException\n" + correct.code.replace(line, refusing)
    module = replace(correct, code=code).run()
    bad, good = _Wire(module.app), _Wire(module.app)
    await _until(lambda: len(module.clients) == 2)
    for wire, text in ((bad, "bad"), (good, "good")):
        wire.incoming.put_nowait({"type": "websocket.receive", "text": text})
    async with asyncio.timeout(PATIENCE):
        await bad.task
    await _until(good.texts)
    assert (bad.closed(), bad.texts(), good.closed(), good.texts()) == ([1008], [], [], ["good"])
    good.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    await good.task


async def test_a_route_broadcasts_too_from_a_thread_by_anyio() -> None:
    module = RuleFile.load("serving-websockets").block(correct=True).run()

    app: FastAPI = module.app

    @app.post("/news")
    def news(text: str) -> None:
        anyio.from_thread.run(module.broadcast, text)

    async with (
        _served(module.app) as served,
        _client(served) as client,
        httpx.AsyncClient(base_url=served.url) as http,
    ):
        await _until(lambda: module.clients)
        assert (await http.post("/news", params={"text": "hello"})).status_code == 200
        assert await client.recv() == "hello"


async def test_when_the_server_stops_the_loops_end_and_clients_see_1012(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    module = correct.run()
    async with _served(module.app) as served:
        client = await _client(served)
        await _until(lambda: module.clients)
    with pytest.raises(websockets.ConnectionClosed):
        await client.recv()
    assert client.close_code == 1012
    assert (module.clients, _complaints(caplog)) == ({}, [])


async def test_a_route_that_only_sends_does_not_notice_that_its_client_has_left(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    news = asyncio.Event()
    ended = asyncio.Event()

    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await news.wait()
            await websocket.send_text("news")
        finally:
            ended.set()

    async with _served(app) as served:
        async with _client(served, "/feed"):
            pass
        await asyncio.sleep(0.1)
        assert not ended.is_set()
        news.set()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    assert "WebSocketDisconnect" in caplog.text
    witness.saw(caplog.text)


async def test_a_ping_timeout_does_not_end_a_send_to_a_client_that_does_not_read() -> None:
    app = FastAPI()
    sent: list[int] = []
    ended = asyncio.Event()

    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(LARGE)
                sent.append(1)
        finally:
            ended.set()

    async with _served(app, ws_ping_interval=0.05, ws_ping_timeout=0.05) as served:
        client = await _client(served, "/feed")
        await asyncio.sleep(0.5)
        filled = len(sent)
        await asyncio.sleep(0.5)  # ten times the two
        assert (len(sent), ended.is_set()) == (filled, False)
        client.transport.abort()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
