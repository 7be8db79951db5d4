"""What one request over HTTP may use: bytes, time, a place among the others.

Each function wraps an ASGI application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from packlore.serve.drain import DRAIN

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Limits:
    """What one request may use."""

    body = 1024 * 1024
    """Bytes; a tool call has some hundred."""
    seconds = 30.0
    """Until a response starts. A stream that has started may go on."""
    concurrency = 1000
    """Requests at once in one worker; more are answered with 503. Connections are not counted:
    clients keep theirs while they have nothing to ask."""
    streams = 200
    """Streams at once in one worker; more are answered with 503."""
    stream_seconds = 3600.0
    """The life of a stream; a client opens another."""


def received(app: App) -> App:
    """Reads the body first, up to its limit: who leaves before its end gets no answer, and no
    traceback."""

    async def received(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = bytearray(), scope["type"] == "http"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > Limits.body:
                await respond(send, 413, b"the request is too large\n")
                return
        whole = [{"type": "http.request", "body": bytes(body)}]

        async def replay() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        await app(scope, replay if scope["type"] == "http" else receive, send)

    return received


def limit(app: App) -> App:
    """Turns away what comes while too many requests run. A stream is no request any more: it
    has a place among the streams, a bound on its life, and ends when the server does."""
    running = 0

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if running >= Limits.concurrency:
            await _busy(send, b"too many requests at once\n")
            return
        running += 1
        counted, refused = True, False

        def leave() -> None:
            nonlocal running, counted
            running -= counted
            counted = False

        try:
            async with asyncio.timeout(None) as life:

                async def start(message: MutableMapping[str, Any]) -> None:
                    nonlocal refused
                    if message["type"] == "http.response.start" and _is_stream(message):
                        leave()
                        now = asyncio.get_running_loop().time()
                        if len(DRAIN) >= Limits.streams:
                            refused = True
                            life.reschedule(now)
                            await _busy(send, b"too many streams at once\n")
                        else:
                            life.reschedule(now + Limits.stream_seconds)
                            DRAIN.opened(life)
                    if not refused:
                        await send(message)

                try:
                    await app(scope, receive, start)
                finally:
                    DRAIN.closed(life)
        except TimeoutError:
            if not life.expired():
                raise
            if not refused:
                await send({"type": "http.response.body", "body": b""})
        finally:
            leave()

    return limited


def _is_stream(message: MutableMapping[str, Any]) -> bool:
    kinds = (value for name, value in message["headers"] if name.lower() == b"content-type")
    return next(kinds, b"").startswith(b"text/event-stream")


async def _busy(send: Send, text: bytes) -> None:
    await respond(send, 503, text, headers=[(b"retry-after", b"1")])


def bound(app: App) -> App:
    """Ends a request whose response has not started in time: a body that never comes, say."""

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(Limits.seconds) as limit:

                async def start(message: MutableMapping[str, Any]) -> None:
                    limit.reschedule(None)
                    await send(message)

                await app(scope, receive, start)
        except TimeoutError:
            if not limit.expired():
                raise
            await respond(send, 408, b"the request took too long\n")

    return bound


async def respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", content_type.encode())
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [kind, length, *(headers or [])],
        }
    )
    await send({"type": "http.response.body", "body": body})
