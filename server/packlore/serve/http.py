"""The HTTP application around a server: who may ask, how much, how long, and one log line each."""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware

from packlore.serve.drain import DRAIN, before_uvicorn
from packlore.serve.log import say
from packlore.serve.requests import App, Receive, Scope, Send, bound, limit, received, respond

if TYPE_CHECKING:
    from packlore.serve.server import PackServer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LOCAL_ORIGIN = r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"
_PORT = re.compile(r":\d*$")
HEALTH = "/health"
MAX_CLIENT, MAX_METHOD, MAX_PATH = 64, 20, 200
"""Characters of a line of the log: a request may have 64 KB of each."""


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
    local_hosts = tuple(local) if host in LOOPBACK else ()
    app = server.http_app(
        hosts=[*hosts, *local_hosts],
        origins=[*origins, *(f"http://{each}" for each in local if host in LOOPBACK)],
        sessions=sessions,
    )
    whole: App = app if sessions else _posts_alone(app)
    # A request takes a place when it is whole: half ones would take those of others.
    whole = _require(bound(received(limit(whole))), token)
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
            with before_uvicorn():
                yield state

    app.router.lifespan_context = both
    return _log(_of_known_hosts(_answer_health(whole, server), (*hosts, *local_hosts)))


def _log(app: App) -> App:
    """One line a request on stderr: client, method, path, status, milliseconds, bytes. At the end
    of the process it also tells clients not to keep their connections."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 0, 0

        async def count(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                if DRAIN.begun:
                    headers = [*message.get("headers", ()), (b"connection", b"close")]
                    message = {**message, "headers": headers}
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, count)
        finally:
            client = (scope.get("client") or ("-",))[0]  # a proxy on this machine says which
            spent = (time.perf_counter() - start) * 1000
            told = (client[:MAX_CLIENT], scope["method"][:MAX_METHOD], scope["path"][:MAX_PATH])
            # A line stays a line, and has as many words as it has fields.
            asked = " ".join(json.dumps(each)[1:-1].replace(" ", "%20") for each in told)
            say(f"{asked} {status} {spent:.1f}ms {sent}B")

    return logged


def _of_known_hosts(app: App, hosts: tuple[str, ...]) -> App:
    """Refuses all that is asked of another Host, redirects and the health among it: a page on the
    web can make a browser ask whatever address its name leads to."""

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = next((v for k, v in scope["headers"] if k == b"host"), b"").decode("latin-1")
            name = _PORT.sub("", given.lower())
            if not {given.lower(), name, f"{name}:*"} & {*hosts}:
                await respond(send, 421, b"this Host is not served here: --allowed-host\n")
                return
        await app(scope, receive, send)

    return known


def _answer_health(app: App, server: PackServer) -> App:
    async def health(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == HEALTH:
            served = {"status": "ok", "version": server.version, "rules": server.rules}
            await respond(send, 200, json.dumps(served).encode(), "application/json")
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
                await respond(send, 401, text, headers=[(b"www-authenticate", b"Bearer")])
                return
        await app(scope, receive, send)

    return required


def _posts_alone(app: App) -> App:
    """Refuses what needs a session: the SDK would keep a stream open on which nothing comes."""

    async def posts(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "POST":
            text = b"only POST: this server keeps no sessions\n"
            await respond(send, 405, text, headers=[(b"allow", b"POST")])
        else:
            await app(scope, receive, send)

    return posts
