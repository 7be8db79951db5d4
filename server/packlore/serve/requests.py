"""What one request over HTTP may use: bytes, time, a place among the others.

Each function wraps an ASGI application.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from packlore.serve.drain import DRAIN
from packlore.serve.held import Held, client_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Limits:
    """What one request may use."""

    body = 1024 * 1024
    """Bytes; a tool call has some hundred."""
    repeated = 1024
    """Characters of an id, a method or a URI, which the SDK repeats in its answers."""
    seconds = 30.0
    """Until the start of a response is sent. A stream that has started may go on."""
    concurrency = 1000
    """Requests at once in one worker; more are answered with 503. Connections are not counted:
    clients keep theirs while they have nothing to ask."""
    of_client = 500
    """The same of one client address."""
    streams = 200
    """Streams at once in one worker; more are answered with 503."""
    streams_of_client = 100
    """The same of one client address."""
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
        if wrong := _refused(body):
            await respond(send, 400, wrong, "application/json")
            return
        whole = [{"type": "http.request", "body": bytes(body)}]

        async def replay() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        await app(scope, replay if scope["type"] == "http" else receive, send)

    return received


def _refused(body: bytes | bytearray) -> bytes:
    """The answer to a body of which the SDK would repeat too much; empty where it would not."""
    if len(body) <= Limits.repeated:
        return b""
    code, wrong = -32600, ""  # the codes of JSON-RPC 2.0, 5.1
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        code, wrong, message = -32700, "the body is no JSON", None
    if isinstance(message, dict):
        params = message.get("params")
        uri = params.get("uri") if isinstance(params, dict) else None
        said = {"id": message.get("id"), "method": message.get("method"), "uri": uri}
        for name, each in said.items():
            if isinstance(each, str) and len(each) > Limits.repeated:
                wrong = f"the {name} has {len(each):,} characters, at most {Limits.repeated:,}"
    error = {"code": code, "message": wrong}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode() if wrong else b""


def limit(app: App) -> App:
    """Turns away what comes while too many requests run, of all or of one client. A stream is no
    request any more: it has a place among the streams, a bound on its life, and ends when the
    server does."""
    running: Held[object] = Held()

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        client = client_of((scope.get("client") or ("",))[0])  # a proxy on this machine says which
        if busy := _too_many(running, client, Limits.concurrency, Limits.of_client):
            await _busy(send, f"too many requests at once{busy}")
            return
        request, refused = object(), False
        running.add(request, client)
        try:
            async with asyncio.timeout(None) as life:

                async def start(message: MutableMapping[str, Any]) -> None:
                    nonlocal refused
                    if message["type"] == "http.response.start" and _is_stream(message):
                        running.discard(request)
                        now = asyncio.get_running_loop().time()
                        most = (Limits.streams, Limits.streams_of_client)
                        if busy := _too_many(DRAIN.streams, client, *most):
                            refused = True
                            life.reschedule(now)
                            await _busy(send, f"too many streams at once{busy}")
                        else:
                            life.reschedule(now + Limits.stream_seconds)
                            DRAIN.opened(life, client)
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
            running.discard(request)

    return limited


def _too_many(held: Held[Any], client: str, most: int, of_client: int) -> str:
    """The end of the line that says so; empty where there is a place for the client."""
    if len(held) >= most:
        return "\n"
    return " of one client\n" if held.size_of(client) >= of_client else ""


def _is_stream(message: MutableMapping[str, Any]) -> bool:
    kinds = (value for name, value in message["headers"] if name.lower() == b"content-type")
    return next(kinds, b"").startswith(b"text/event-stream")


async def _busy(send: Send, text: str) -> None:
    await respond(send, 503, text.encode(), headers=[(b"retry-after", b"1")])


def bound(app: App) -> App:
    """Ends a request whose response has not started in time: a body that never comes, say."""

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(Limits.seconds) as limit:

                async def start(message: MutableMapping[str, Any]) -> None:
                    await send(message)
                    limit.reschedule(None)

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
