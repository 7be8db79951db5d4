"""Serves one client over stdin and stdout until it leaves and all that it asked is answered.

The SDK ends at the end of its input and cancels what it still works on: `echo request | server`
would answer nothing. So the end is held back from it until each request has its answer.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Self, TextIO

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from packlore.serve.log import finish, say

PATIENCE = 30.0
"""Seconds that running requests have after the end of the input."""
MOST = 100
"""Requests under way at once."""
ENDLESS = "subscriptions/listen"
"""A request that has no answer before its client leaves."""


GIVEN_UP = "notifications/cancelled"
"""Says that a request is not to be answered any more."""


class Pending:
    """The requests that are under way, by their ids."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._some_done = anyio.Event()

    def asked(self, message: Any) -> None:
        """Take note of what the client sent: a request, or that it gives one up."""
        if isinstance(message, JSONRPCRequest) and message.method != ENDLESS:
            self._ids.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == GIVEN_UP:
            self._done((message.params or {}).get("requestId"))

    def answered(self, message: Any) -> None:
        """Take note of what the server sent."""
        if isinstance(message, (JSONRPCResponse, JSONRPCError)):
            self._done(message.id)

    def _done(self, number: Any) -> None:
        if isinstance(number, (str, int)):  # a client may name anything
            self._ids.discard(number)
        self._some_done.set()

    async def room(self) -> None:
        """Until fewer than MOST are under way: what a client does not read must wait somewhere,
        and its own side of the pipe is bounded."""
        while len(self._ids) >= MOST:
            self._some_done = anyio.Event()
            await self._some_done.wait()

    async def wait(self) -> None:
        """Until none is under way. After PATIENCE the process ends: a thread that still works
        cannot be stopped, and the SDK would wait for it."""
        with anyio.move_on_after(PATIENCE) as scope:
            while self._ids:
                self._some_done = anyio.Event()
                await self._some_done.wait()
        if scope.cancelled_caught:
            say(f"packlore: it ends without the answers of {len(self._ids)} requests")
            finish()
            os._exit(0)


class _Stream:
    """A stream of the SDK's, with what its protocols ask for."""

    def __init__(self, inner: Any, pending: Pending) -> None:
        self._inner, self._pending = inner, pending

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        found: bool | None = await self._inner.__aexit__(kind, error, trace)
        return found


class Asked(_Stream):
    """What comes in. It ends once all that came is answered."""

    async def receive(self) -> SessionMessage | Exception:
        await self._pending.room()
        try:
            item: SessionMessage | Exception = await self._inner.receive()
        except anyio.EndOfStream:
            await self._pending.wait()
            raise
        if isinstance(item, SessionMessage):
            self._pending.asked(item.message)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class Answered(_Stream):
    """What goes out."""

    async def send(self, item: SessionMessage, /) -> None:
        await self._inner.send(item)
        self._pending.answered(item.message)


class _Out:
    """Stdout. Where nobody reads it any more the process ends: the SDK would wait for the next
    line of stdin first, and then print a traceback."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    async def write(self, text: str) -> None:
        await anyio.to_thread.run_sync(self._write, text)

    async def flush(self) -> None:
        """Each line is written whole."""

    def _write(self, text: str) -> None:
        try:
            self._inner.write(text)
            self._inner.flush()
        except OSError:
            os._exit(0)


def _stdout() -> Any:
    """Stdout for the protocol alone: what else is printed in this process goes to stderr."""
    private = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return _Out(private)


async def serve(server: MCPServer[Any]) -> None:
    """Serve over this process's stdin and stdout until the client leaves."""
    inner = server._lowlevel_server  # noqa: SLF001 the SDK's own run_stdio_async takes it from there
    pending = Pending()
    async with stdio_server(stdout=_stdout()) as (read, write):
        asked, answered = Asked(read, pending), Answered(write, pending)
        await inner.run(asked, answered, inner.create_initialization_options())
