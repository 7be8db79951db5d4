"""The HTTP application around a server: who may ask, how much, how long, and one log line each."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from packlore.serve.server import PackServer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LOCAL_ORIGIN = r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"
HEALTH = "/health"

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


def guard(
    server: PackServer,
    *,
    lifespan: Callable[[], AbstractAsyncContextManager[object]],
    host: str,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    token: str,
    sessions: bool,
) -> App:
    """The server's application inside the token, the limits and the log. Without `sessions` any
    worker can answer any request."""
    local = [f"{each}{port}" for each in ("127.0.0.1", "localhost", "[::1]") for port in ("", ":*")]
    app = server.http_app(
        hosts=[*hosts, *(local if host in LOOPBACK else ())],
        origins=[*origins, *(f"http://{each}" for each in local if host in LOOPBACK)],
        sessions=sessions,
    )
    whole: App = app if sessions else _posts_alone(app)
    whole = _require(_limit(_bound(_received(whole))), token)
    # A preflight has no token. What is let in is decided by the server's own check.
    whole = CORSMiddleware(
        whole,
        allow_origins=origins,
        allow_origin_regex=_LOCAL_ORIGIN if host in LOOPBACK else None,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("Mcp-Session-Id", "Mcp-Protocol-Version"),
    )
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def both(starlette: Any) -> Any:
        async with inner(starlette) as state, lifespan():
            yield state

    app.router.lifespan_context = both
    return _log(_answer_health(whole, server))


def _log(app: App) -> App:
    """One line a request on stderr: client, method, path, status, milliseconds, bytes."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 0, 0

        async def count(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, count)
        finally:
            client = (scope.get("client") or ("-",))[0]
            spent = (time.perf_counter() - start) * 1000
            told = (client, scope["method"], scope["path"][:200])
            asked = " ".join(json.dumps(each)[1:-1] for each in told)  # a line stays a line
            sys.stderr.write(f"{asked} {status} {spent:.1f}ms {sent}B\n")

    return logged


def _answer_health(app: App, server: PackServer) -> App:
    async def health(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == HEALTH:
            served = {"status": "ok", "version": server.version, "rules": server.rules}
            await _respond(send, 200, json.dumps(served).encode(), "application/json")
        else:
            await app(scope, receive, send)

    return health


def _require(app: App, token: str) -> App:
    """Asks for the bearer token, where there is one; compared in constant time."""
    expected = token.encode()

    async def required(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and token:
            given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            scheme, _, secret = given.partition(b" ")
            if not (hmac.compare_digest(secret, expected) and scheme.lower() == b"bearer"):
                text = b"send the server's token: Authorization: Bearer ...\n"
                await _respond(send, 401, text, headers=[(b"www-authenticate", b"Bearer")])
                return
        await app(scope, receive, send)

    return required


def _posts_alone(app: App) -> App:
    """Refuses what needs a session: the SDK would keep a stream open on which nothing comes."""

    async def posts(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "POST":
            text = b"only POST: this server keeps no sessions\n"
            await _respond(send, 405, text, headers=[(b"allow", b"POST")])
        else:
            await app(scope, receive, send)

    return posts


def _received(app: App) -> App:
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
                await _respond(send, 413, b"the request is too large\n")
                return
        whole = [{"type": "http.request", "body": bytes(body)}]

        async def replay() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        await app(scope, replay if scope["type"] == "http" else receive, send)

    return received


def _limit(app: App) -> App:
    """Turns away what comes while too many requests run."""
    running = 0

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if running >= Limits.concurrency:
            text = b"too many requests at once\n"
            await _respond(send, 503, text, headers=[(b"retry-after", b"1")])
            return
        running += 1
        try:
            await app(scope, receive, send)
        finally:
            running -= 1

    return limited


def _bound(app: App) -> App:
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
            await _respond(send, 408, b"the request took too long\n")

    return bound


async def _respond(
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
