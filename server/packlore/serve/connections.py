"""Connections to the HTTP server: how many may be open, and how long one may be half a request.

What a request may do once it is there is bounded in http.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from contextlib import suppress
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SPARE = 64
"""Descriptors for all else that a process opens."""


class Limits:
    """What connections may use."""

    headers = 10.0
    """Seconds from the first byte of a request, or from the connection, to the end of the headers."""
    unfinished = 400
    """Connections on which a request is not whole. Beyond, the oldest is closed: an honest one is
    whole within milliseconds."""
    soon = 1.0
    """Seconds that each has all the same: many may come at once."""
    of_client = 100
    """The same of one client address. A proxy in front is one client; it sends whole requests."""
    open = 4_000
    """Connections in all, as far as the process may open so many files."""


def most_open() -> int:
    """How many connections may be open."""
    if resource is None:
        return Limits.open
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits.open if files == resource.RLIM_INFINITY else min(Limits.open, files - SPARE)


class Protocol(H11Protocol):
    """uvicorn's own, which knows when its request is whole."""

    unfinished: ClassVar[OrderedDict[Protocol, float]] = OrderedDict()
    """Of this process, the oldest first, with the time since when."""
    of_client: ClassVar[dict[str, OrderedDict[Protocol, float]]] = {}
    """The same by the client's address."""
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or in its place give up the oldest that has not said what it wants."""
        super().connection_made(transport)
        # asyncio does so where a socket names its protocol, which uvicorn's listener does not: the
        # body of an answer would wait for the client's receipt of its headers, 40 ms on Linux.
        with suppress(OSError):  # the client has left
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wait()
        if len(self.connections) > most_open():
            next(iter(Protocol.unfinished)).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._whole()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and see whether that makes a request."""
        super().data_received(data)
        if not self.transport.is_closing():
            self._look()

    def on_response_complete(self) -> None:
        """What came after the request may be the beginning of another."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._look()

    def give_up(self) -> None:
        """End a connection that is in the way."""
        self._whole()
        self.transport.abort()

    def _look(self) -> None:
        cycle: Any = self.cycle
        running = cycle is not None and not cycle.response_complete
        if (running and not cycle.more_body) or (
            not running and not self.conn.trailing_data[0] and cycle is not None
        ):
            self._whole()
        else:
            self._wait()
            if running and self._late:  # the headers are there; the body has a bound of its own
                self._late.cancel()

    def _wait(self) -> None:
        if self in Protocol.unfinished:
            return
        address = self.client[0] if self.client else ""
        mine = Protocol.of_client.setdefault(address, OrderedDict())
        now = self.loop.time()
        Protocol.unfinished[self] = mine[self] = now
        self._late = self.loop.call_later(Limits.headers, self.give_up)
        for waiting, most in ((mine, Limits.of_client), (Protocol.unfinished, Limits.unfinished)):
            oldest = next(iter(waiting))
            if len(waiting) > most and now - waiting[oldest] > Limits.soon:
                oldest.give_up()

    def _whole(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
        if self in Protocol.unfinished:
            address = self.client[0] if self.client else ""
            del Protocol.unfinished[self]
            mine = Protocol.of_client[address]
            del mine[self]
            if not mine:
                del Protocol.of_client[address]
