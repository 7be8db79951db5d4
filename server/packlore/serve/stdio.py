"""Serves one client over stdin and stdout until it leaves and all that it asked is answered.

The SDK ends at the end of its input and cancels what it still works on: `echo request | server`
would answer nothing. So the end is held back from it until each request has its answer.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

PATIENCE = 30.0
"""Seconds that running requests have after the end of the input."""
ENDLESS = "subscriptions/listen"
"""A request that has no answer before its client leaves."""


GIVEN_UP = "notifications/cancelled"
"""Says that a request is not to be answered any more."""


class Pending:
    """The requests that are under way, by their ids."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._none = anyio.Event()

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
        self._ids.discard(number)
        self._none.set()

    async def wait(self) -> None:
        """Until none is under way, PATIENCE at most."""
        with anyio.move_on_after(PATIENCE):
            while self._ids:
                self._none = anyio.Event()
                await self._none.wait()


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


async def serve(server: MCPServer[Any]) -> None:
    """Serve over this process's stdin and stdout until the client leaves."""
    inner = server._lowlevel_server  # noqa: SLF001 the SDK's own run_stdio_async takes it from there
    pending = Pending()
    async with stdio_server() as (read, write):
        asked, answered = Asked(read, pending), Answered(write, pending)
        await inner.run(asked, answered, inner.create_initialization_options())
