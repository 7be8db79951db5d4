"""How a process that serves HTTP comes to its end: what has begun is answered, streams are closed.

uvicorn by itself closes at once the listener with its queue, and the connections on which a request
is just coming. So SIGTERM reaches it a moment later. One for each process, as its signals are.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from packlore.serve.connections import Protocol
from packlore.serve.held import Held
from packlore.serve.log import finish, say

GRACE = 1.0
"""Seconds in which requests are still taken after SIGTERM, each with `Connection: close`: a
client that keeps a connection may be sending one just now."""


SO_ATTACH_FILTER, BPF_RETURN = 26, 0x06
"""Of Linux: asm/socket.h, linux/bpf_common.h. A filter that returns 0 drops each packet."""
PATIENCE = 5.0
"""Seconds that requests have which have begun to come."""
LAST = 3.0
"""Seconds from the end of the application to that of the process."""


class Drain:
    """Whether the end has begun, and the streams that it closes."""

    def __init__(self) -> None:
        self.begun = False
        self.streams: Held[asyncio.Timeout] = Held()

    def begin(self) -> None:
        """Close all streams, and from now on say so to who keeps a connection."""
        self.begun = True
        for each in self.streams:
            each.reschedule(asyncio.get_running_loop().time())

    def opened(self, stream: asyncio.Timeout, client: str) -> None:
        """A stream of a client has begun; `begin` ends it."""
        self.streams.add(stream, client)
        if self.begun:
            stream.reschedule(asyncio.get_running_loop().time())

    def closed(self, stream: asyncio.Timeout) -> None:
        """A stream has ended."""
        self.streams.discard(stream)


DRAIN = Drain()


@contextmanager
def before_uvicorn() -> Iterator[None]:
    """While the application lives, SIGTERM begins the drain, and uvicorn hears of it after GRACE."""
    uvicorns = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(uvicorns):
        yield
        return
    loop = asyncio.get_running_loop()

    def begin() -> None:
        DRAIN.begin()
        if multiprocessing.parent_process() is None:
            refuse_new(_listeners(server))
        loop.call_later(GRACE, stop)

    server: Any = getattr(uvicorns, "__self__", None)

    def stop() -> None:
        for each in _listeners(server):
            loop.remove_reader(
                each
            )  # what asyncio has accepted is connected before its server ends
        loop.call_later(GRACE / 20, close)

    def close() -> None:
        _take_what_waits(server, loop)
        loop.call_later(GRACE / 20, leave, loop.time() + PATIENCE)

    def leave(until: float) -> None:
        if Protocol.unfinished and loop.time() < until:
            loop.call_later(GRACE / 20, leave, until)
        else:
            uvicorns(signal.SIGTERM, None)

    def terminate(number: int, frame: Any) -> None:
        if DRAIN.begun:  # who asks twice means it
            uvicorns(number, frame)
        else:
            loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, uvicorns)
        if server is not None:
            threading.Thread(target=_end, daemon=True, name="end").start()


def _end() -> None:
    """End the process, where it does not end by itself: Python waits for threads, and one that
    still works on a request cannot be stopped."""
    time.sleep(LAST)
    say("packlore: it ends without the answers of requests that still run")
    finish()
    os._exit(0)


def _take_what_waits(server: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Accept the connections that wait in the listeners' queues, and close the listeners at once:
    what is in a queue when its listener is closed is reset."""
    for listener in _listeners(server):
        with socket.socket(fileno=os.dup(listener)) as twin, suppress(OSError):
            twin.setblocking(False)
            for accepted, _ in iter(twin.accept, None):  # until none waits
                accepted.setblocking(False)
                made = loop.connect_accepted_socket(lambda: _protocol(server), accepted)
                task = loop.create_task(made)
                server.server_state.tasks.add(task)
                task.add_done_callback(server.server_state.tasks.discard)
    for each in getattr(server, "servers", ()):
        each.close()


def _listeners(server: Any) -> list[int]:
    """The listeners of a uvicorn that serves. On Windows the loop gives no way to take them over."""
    serving = () if os.name == "nt" else getattr(server, "servers", ())
    return [listener.fileno() for each in serving for listener in each.sockets]


def _protocol(server: Any) -> Protocol:
    return Protocol(
        config=server.config, server_state=server.server_state, app_state=server.lifespan.state
    )


def refuse_new(listeners: Iterable[int]) -> None:
    """Let no new connection into the queues of the listeners; what is in them stays. Where a system
    cannot do it, one that comes in the very moment in which a listener is closed is reset."""
    if sys.platform != "linux":
        return
    import ctypes

    nothing = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(nothing))
    for each in listeners:
        with socket.socket(fileno=os.dup(each)) as twin, suppress(OSError):
            twin.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
