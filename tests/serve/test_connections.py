"""What a connection to the HTTP server may keep waiting, and for how long."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from packlore.serve import connections
from packlore.serve.connections import Limits, Protocol
from tests.services.process import HOST

LARGE = 16 * 1024 * 1024
"""Bytes of an answer of which no system holds more than a part for a client that does not read."""
PATIENT = 30.0
App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "


@dataclass
class Application:
    """Answers at once and reads no body."""

    answer: bytes = b"ok"
    asked: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        length = str(len(self.answer)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


@dataclass
class Listening:
    """A listener as uvicorn binds it, and its connections."""

    address: tuple[str, int]
    made: list[Protocol] = field(default_factory=list)
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def client(
        self, sent: bytes, source: str = HOST
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which `sent` was sent. What it does not read waits at the server."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((source, 0))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        self.clients.append(writer)
        writer.write(sent)
        return reader, writer


@asynccontextmanager
async def listening(application: App, keep_alive: int = 60) -> AsyncIterator[Listening]:
    config = Config(
        application, interface="asgi3", log_config=None, timeout_keep_alive=keep_alive, ws="none"
    )
    config.load()
    state = ServerState()
    listener = socket.socket(socket.AF_INET)
    listener.bind((HOST, 0))
    found = Listening(listener.getsockname())

    def make() -> Protocol:
        found.made.append(Protocol(config, state, {}))
        return found.made[-1]

    server = await asyncio.get_running_loop().create_server(make, sock=listener)
    try:
        yield found
    finally:
        for each in found.clients:
            each.close()
        server.close()
        await until(lambda: not state.connections)
        assert len(Protocol.waiting) == len(Protocol.unfinished) == len(Protocol.unread) == 0


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT):
        while not seen():  # noqa: ASYNC110 of another's state
            await asyncio.sleep(0.01)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends."""
    found = bytearray()
    async with asyncio.timeout(PATIENT):
        with suppress(ConnectionResetError):
            while data := await reader.read(1 << 20):
                found += data
    return bytes(found)


async def test_the_body_of_an_answer_does_not_wait_for_the_receipt_of_its_headers() -> None:
    async with listening(Application()) as server:
        await server.client(b"")
        await until(lambda: bool(server.made))
        seen = server.made[0].transport.get_extra_info("socket")
        assert seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_a_body_that_goes_on_after_its_answer_has_as_long_as_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(Application()) as server:
        reader, writer = await server.client(HEAD + b"1000\r\n\r\n")
        assert await reader.readuntil(b"ok")
        await until(lambda: len(Protocol.unfinished) == 1)
        monkeypatch.setattr(Limits, "headers", 0.1)
        reader, writer = await server.client(HEAD + b"1000\r\n\r\n")
        assert await reader.readuntil(b"ok")
        writer.write(b"x")
        assert await rest(reader) == b""


async def test_a_connection_whose_body_came_after_its_answer_is_kept_as_long_as_others() -> None:
    async with listening(Application(), keep_alive=1) as server:
        reader, writer = await server.client(HEAD + b"1\r\n\r\n")
        assert await reader.readuntil(b"ok")
        writer.write(b"x")
        assert await rest(reader) == b""


async def test_after_a_body_that_came_late_the_next_request_is_answered() -> None:
    application = Application()
    async with listening(application) as server:
        reader, writer = await server.client(HEAD + b"3\r\n\r\n")
        assert await reader.readuntil(b"ok")
        writer.write(b"xyz" + HEAD + b"0\r\n\r\n")
        assert await reader.readuntil(b"ok")
        assert (application.asked, len(Protocol.unfinished)) == (2, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="has all of 127.0.0.0/8")
@pytest.mark.parametrize("length", [b"0", b"9"], ids=["idle", "half a request"])
async def test_of_too_many_connections_the_client_that_has_most_loses_its_oldest(
    monkeypatch: pytest.MonkeyPatch, length: bytes
) -> None:
    monkeypatch.setattr(connections, "most_open", lambda: 4)
    async with listening(Application()) as server:
        other, _ = await server.client(HEAD + b"0\r\n\r\n", "127.0.0.2")
        assert await other.readuntil(b"ok")
        many = []
        for _ in range(3):
            reader, writer = await server.client(HEAD + length + b"\r\n\r\n")
            assert await reader.readuntil(b"ok")
            many.append(reader)
            writer.write(b"x" if length != b"0" else b"")
        newcomer, _ = await server.client(HEAD + b"0\r\n\r\n", "127.0.0.3")
        assert await newcomer.readuntil(b"ok")
        assert await rest(many[0]) == b""
        assert [each.at_eof() for each in (other, many[1], many[2])] == [False] * 3


async def test_an_answer_that_is_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "unread", 0.2)
    async with listening(Application(b"x" * LARGE)) as server:
        reader, _ = await server.client(HEAD + b"0\r\n\r\n")
        await until(lambda: bool(server.made))
        await until(lambda: not server.made[0].connections)
        assert len(await rest(reader)) < LARGE


async def test_an_answer_that_is_not_read_is_given_up_though_its_connection_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Limits, "unread", 0.2)
    async with listening(Application(b"x" * LARGE)) as server:
        closing = HEAD.replace(b"Host", b"Connection: close\r\nHost")
        await server.client(closing + b"0\r\n\r\n")
        await until(lambda: bool(server.made))
        await until(lambda: not server.made[0].connections)


async def test_what_waits_of_an_answer_has_a_clock_however_little_it_is() -> None:
    async with listening(Application()) as server:
        await server.client(b"")
        await until(lambda: bool(server.made))
        assert server.made[0].transport.get_write_buffer_limits() == (0, 0)


async def test_who_reads_what_was_sent_may_wait_for_more_of_a_stream() -> None:
    more = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"end"})

    async with listening(stream) as server:
        reader, _ = await server.client(HEAD + b"0\r\n\r\n")
        await until(lambda: len(Protocol.unread) == 1)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(LARGE)
        await until(lambda: len(Protocol.waiting) == 0)
        more.set()
        assert await reader.readuntil(b"end")


async def test_the_next_request_begins_when_the_answer_before_it_is_read() -> None:
    application = Application(b"x" * LARGE)
    async with listening(application) as server:
        reader, _ = await server.client((HEAD + b"0\r\n\r\n") * 3)
        await until(lambda: len(Protocol.unread) == 1)
        await asyncio.sleep(0.1)
        assert application.asked == 1
        for asked in (1, 2, 3):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(LARGE) == application.answer
            assert application.asked >= asked
        assert application.asked == 3


async def test_a_late_body_and_what_follows_wait_for_the_answer_to_be_read() -> None:
    application = Application(b"x" * LARGE)
    async with listening(application) as server:
        reader, writer = await server.client(HEAD + b"3\r\n\r\n")
        await until(lambda: len(Protocol.unread) == 1)
        writer.write(b"xyz" + HEAD + b"0\r\n\r\n")
        await asyncio.sleep(0.1)
        assert application.asked == 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(LARGE) == application.answer


async def test_answers_that_are_not_read_have_a_bound_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an answer more than 10 MB wait, the system holds the rest."""
    monkeypatch.setattr(Limits, "unsent", 20 * 1024 * 1024)
    async with listening(Application(b"x" * LARGE)) as server:
        readers = []
        for number in (1, 2, 3):
            reader, _ = await server.client(HEAD + b"0\r\n\r\n")
            await until(lambda number=number: len(server.made) == number)  # type: ignore[misc]
            await until(lambda: server.made[-1] in Protocol.unread)
            readers.append(reader)
        assert list(Protocol.unread) == server.made[-1:]
        assert [len(await rest(each)) < LARGE for each in readers[:2]] == [True, True]
