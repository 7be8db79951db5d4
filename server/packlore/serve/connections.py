"""Connections to the HTTP server: how many may be open, and how long one may keep it waiting.

Each has a clock while it waits for its client: for the rest of a request, for the next one, or for
an answer to be read. What a request may do once it is there is bounded in requests.py.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from enum import Enum, auto
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from packlore.serve.held import Held, client_of

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SPARE = 64
"""Descriptors for all else that a process opens."""
FEWEST = 16
"""Connections without which there is no serving."""


class Limits:
    """What connections may use."""

    headers = 10.0
    """Seconds from the first byte of a request, or from the connection, to the end of the headers.
    As many has the rest of a request that has its answer already."""
    unfinished = 400
    """Connections on which a request is not whole. Beyond, the oldest is closed: an honest one is
    whole within milliseconds."""
    soon = 1.0
    """Seconds that each has all the same: many may come at once."""
    of_client = 100
    """The same of one client address. A proxy in front is one client; it sends whole requests."""
    unread = 30.0
    """Seconds in which a client reads what the system does not hold for it of an answer."""
    unsent = 64 * 1024 * 1024
    """Bytes of all such answers. Beyond, the client that lets most of them wait loses its oldest."""
    open = 4_000
    """Connections in all, as far as the process may open so many files."""


def most_open() -> int:
    """How many connections may be open."""
    if resource is None:
        return Limits.open
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits.open if files == resource.RLIM_INFINITY else min(Limits.open, files - SPARE)


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = auto()
    """The headers of a request, or the rest of one that is answered already."""
    BODY = auto()
    """The body of a request, which has a clock in requests.py."""
    NEXT = auto()
    """Another request: the keep-alive of uvicorn."""
    READER = auto()
    """A client that reads its answer."""
    SERVER = auto()
    """The server, which has a whole request, or the end of the connection."""


class Protocol(H11Protocol):
    """uvicorn's own, which knows when its request is whole."""

    waiting: ClassVar[Held[Protocol]] = Held()
    """Of this process, all that wait for their client."""
    unfinished: ClassVar[Held[Protocol]] = Held()
    """Those whose request is not whole."""
    unread: ClassVar[Held[Protocol]] = Held()
    """Those whose answer is not read, by the bytes that wait."""
    _client = ""
    _phase = Phase.SERVER
    since = 0.0
    """When it began to wait for what it waits for, by the clock of the loop."""
    _clock: asyncio.TimerHandle | None = None
    _complete = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or in its place give up one of the client that keeps most of them
        waiting."""
        super().connection_made(transport)
        self._client = client_of(self.client[0]) if self.client else ""
        # What the system does not take at once is told by `pause_writing`, however little it is.
        transport.set_write_buffer_limits(0)
        # asyncio does so where a socket names its protocol, which uvicorn's listener does not: the
        # body of an answer would wait for the client's receipt of its headers, 40 ms on Linux.
        with suppress(OSError):  # the client has left
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._look()
        if len(self.connections) > most_open():
            Protocol.waiting.oldest_of_most().give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and see whether that makes a request."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """What came after the request may be another. It begins once this answer is read: who
        reads none has one answer that waits."""
        self._complete = self.flow.write_paused and not self.transport.is_closing()
        if self._complete:
            self.flow.pause_reading()
        else:
            super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """The client has read its answer."""
        super().resume_writing()
        self._look()
        if self._complete:  # what follows may close the transport, which is still at work
            self.loop.call_soon(self.on_response_complete)

    def give_up(self) -> None:
        """End a connection that is in the way."""
        self._leave()
        self.transport.abort()

    def _look(self) -> None:
        """See what the connection waits for now, and set its clock where that is another thing."""
        phase = self._now()
        if phase is self._phase:
            return
        self._leave()
        self._phase, self.since = phase, self.loop.time()
        if phase is not Phase.SERVER:
            Protocol.waiting.add(self, self._client)
        if phase is Phase.NEXT and self.timeout_keep_alive_task is None:
            # uvicorn has stopped it at the end of a body that came after its answer
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif phase is Phase.READER:
            self._clock = self.loop.call_later(Limits.unread, self.give_up)
            size = self.transport.get_write_buffer_size()
            Protocol.unread.add(self, self._client, size)
            while Protocol.unread.size > Limits.unsent:
                Protocol.unread.oldest_of_most().give_up()
        elif phase in (Phase.REQUEST, Phase.BODY):
            if phase is Phase.REQUEST:
                self._clock = self.loop.call_later(Limits.headers, self.give_up)
            self._crowd()

    def _now(self) -> Phase:
        cycle: Any = self.cycle
        if self.flow.write_paused:
            return Phase.READER
        if self._complete or self.transport.is_closing():
            return Phase.SERVER
        if cycle is not None and not cycle.response_complete:
            return Phase.BODY if cycle.more_body else Phase.SERVER
        between = cycle is not None and self.conn.their_state is h11.IDLE
        return Phase.NEXT if between and not self.conn.trailing_data[0] else Phase.REQUEST

    def _crowd(self) -> None:
        """Join those whose request is not whole. Where they are too many, the oldest leaves."""
        Protocol.unfinished.add(self, self._client)
        mine, soon = Protocol.unfinished.size_of(self._client), self.loop.time() - Limits.soon
        if mine > Limits.of_client:
            oldest = Protocol.unfinished.oldest_of(self._client)
            if oldest.since < soon:
                oldest.give_up()
        if len(Protocol.unfinished) > Limits.unfinished:
            oldest = Protocol.unfinished.oldest()
            if oldest.since < soon:
                oldest.give_up()

    def _leave(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None
        for held in (Protocol.waiting, Protocol.unfinished, Protocol.unread):
            held.discard(self)
