"""Targets that are servers: the application in this process, and processes over HTTP and stdio."""

from __future__ import annotations

import itertools
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stderr, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
from hypothesis import strategies as st

from packlore.library import Library
from packlore.serve.http import guard
from packlore.serve.requests import App
from packlore.serve.server import PackServer
from tests.fuzz.run import Check
from tests.fuzz.texts import CODE, ODD, WORDS, pieces
from tests.packs import own
from tests.services import serving_process
from tests.services.process import HOST

SERVE = (sys.executable, "-m", "packlore", "serve")
GONE = 30.0
"""Seconds without an answer after which there is none."""
METHODS = (
    *("initialize", "ping", "tools/list", "tools/call", "resources/read", "resources/list"),
    *("prompts/get", "prompts/list", "completion/complete", "skills/get", "skills/list"),
    *("resources/directory/read", "notifications/initialized", "notifications/cancelled"),
    *("logging/setLevel", "subscriptions/listen", "server/discover", "", "\0", "../.."),
)
STRINGS = (
    *("find_rules", "read_rules", "load_category", "list_rules", "review_code", "plan_work"),
    *("asyncio", "asyncio-timeout", "skill://own/SKILL.md", "skill://own", "../../etc/passwd"),
    *("2026-07-28", "2025-06-18", "io.modelcontextprotocol/protocolVersion", "ref/prompt"),
    *("\ud800", "", "x" * 5_000, "file:///etc/passwd"),
)
NAMES = (
    *("name", "arguments", "query", "ids", "uri", "cursor", "limit", "category", "_meta", "code"),
    *("protocolVersion", "capabilities", "clientInfo", "ref", "argument", "requestId", "task"),
    *("min_impact", "tag", "kind", "pack", "whole", "brief", "progressToken", "type", "value"),
)
_text = st.one_of(st.sampled_from(STRINGS), pieces((*WORDS, *ODD, *CODE), most=4))
_leaf = st.one_of(
    _text, st.integers(-1, 30), st.sampled_from((10**30, 1e308, 0.5, None, True, False))
)
values = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=12,
)
_call = st.fixed_dictionaries(
    {
        "name": st.sampled_from(STRINGS[:6]),
        "arguments": st.dictionaries(st.sampled_from(NAMES), _leaf, max_size=4),
    }
)
_ids = st.one_of(st.integers(0, 9), _leaf)
_whole = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(METHODS)},
    optional={"id": _ids, "params": st.one_of(_call, values)},
)
_tools = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.just("tools/call"), "id": _ids, "params": _call}
)
_odd = st.fixed_dictionaries(
    {}, optional={"jsonrpc": _leaf, "id": values, "method": values, "params": values}
)
_json = st.one_of(_tools, _whole, _whole, _odd, values).map(json.dumps)
messages = st.one_of(
    _json.map(str.encode),
    st.builds(lambda text, end: text.encode()[:end], _json, st.integers(0, 200)),
    st.binary(max_size=60),
    st.sampled_from((b"[" * 100_000, b"{" * 1000, b'{"id":' + b"9" * 6_000 + b"}", b"\xff\xfe")),
).map(lambda line: line.replace(b"\n", b" "))
"""One line of a client, mostly nearly right."""

_header_names = (
    *("host", "origin", "content-type", "accept", "mcp-protocol-version", "mcp-session-id"),
    *("mcp-method", "mcp-name", "authorization", "content-length", "transfer-encoding", "x"),
    *("last-event-id", "access-control-request-method", "access-control-request-headers"),
)
_header_values = st.one_of(
    st.sampled_from(
        (
            *("localhost", "evil.example", "http://localhost:1", "application/json", "text/plain"),
            *("application/json, text/event-stream", "2026-07-28", "2025-06-18", "tools/call", "*"),
            *("subscriptions/listen", "chunked", "5", "-1", "9" * 30, "Bearer \xff", "null", ""),
        )
    ),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=10),
)
_headers = st.lists(st.tuples(st.sampled_from(_header_names), _header_values), max_size=5)
_usual = (
    ("host", "localhost"),
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
)
_method = st.sampled_from(("POST", "POST", "POST", "GET", "DELETE", "OPTIONS", "PUT", "\x1b[2J"))
_path = st.one_of(
    st.sampled_from(("/mcp", "/mcp", "/mcp/", "/health", "/", "//evil/mcp", "/mcp/../x", "*")),
    st.text(max_size=10).map("/{}".format),
)
requests = st.fixed_dictionaries(
    {
        "method": _method,
        "path": _path,
        "headers": st.one_of(_headers, _headers.map(lambda more: [*_usual, *more])),
        "body": messages,
    }
)


def _wire(asked: dict[str, Any], end: str, cut: int | None) -> bytes:
    rows = [f"{asked['method']} {asked['path']} HTTP/1.1"]
    rows += [f"{name}: {value}" for name, value in asked["headers"]]
    body: bytes = asked["body"]
    if not any(name == "content-length" for name, _ in asked["headers"]):
        rows.append(f"content-length: {len(body)}")
    head = end.join([*rows, "", ""]).encode("utf-8", "surrogatepass")
    return (head + body)[:cut]


wire = st.one_of(
    st.builds(_wire, requests, st.sampled_from(("\r\n", "\n")), st.none() | st.integers(0, 400)),
    st.binary(max_size=100),
    st.sampled_from(
        (b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 5_000)
    ),
)
"""What comes over one connection."""


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield own(Path(name) / "own")


@contextmanager
def applications() -> Iterator[Check]:
    """The ASGI application, without a socket."""
    with (
        _folder() as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),  # a line for each request
        anyio.from_thread.start_blocking_portal() as portal,
    ):
        app = guard(
            PackServer(Library.open([folder])),
            lifespan=nullcontext,
            host=HOST,
            hosts=(),
            origins=(),
            token="",
            sessions=False,
        )
        with portal.wrap_async_context_manager(_living(app)):

            def check(asked: dict[str, Any]) -> None:
                status, body = portal.call(_ask, app, asked)
                assert 200 <= status < 500, (status, body)

            yield check


@asynccontextmanager
async def _living(app: App) -> AsyncIterator[None]:
    """The application between its start and its end."""
    ending, done = anyio.Event(), anyio.Event()
    coming = [{"type": "lifespan.startup"}]

    async def receive() -> MutableMapping[str, Any]:
        if coming:
            return coming.pop()
        await ending.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert not message["type"].endswith("failed"), message
        done.set()

    async with anyio.create_task_group() as group:
        scope: MutableMapping[str, Any] = {"type": "lifespan", "state": {}}
        group.start_soon(partial(_run, app), scope, receive, send)
        await done.wait()
        yield
        ending.set()


async def _run(app: App, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)


async def _ask(app: App, asked: dict[str, Any]) -> tuple[int, bytes]:
    """The status and the body of the answer to one request."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": asked["method"],
        "path": asked["path"],
        "raw_path": asked["path"].encode("utf-8", "surrogatepass"),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in asked["headers"]],
    }
    coming = [{"type": "http.request", "body": asked["body"], "more_body": False}]
    statuses: list[int] = []
    body = bytearray()

    async def receive() -> MutableMapping[str, Any]:
        if coming:
            return coming.pop()
        await anyio.sleep(GONE)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        body.extend(message.get("body", b""))

    with anyio.fail_after(GONE * 2):
        await app(scope, receive, send)
    (status,) = statuses
    return status, bytes(body)


@contextmanager
def over_http() -> Iterator[Check]:
    """A process; each input comes over a connection of its own, whose other side then ends."""
    serve = (*SERVE, "--http", "--port", "{port}")
    with _folder() as folder:
        command = [*serve, "--pack", str(folder)]
        with serving_process(command, path="/health") as program:

            def check(data: bytes) -> None:
                answer = b""
                made = socket.create_connection((HOST, program.port), timeout=GONE)
                with made, suppress(ConnectionError):
                    made.sendall(data)
                    with suppress(OSError):  # it may be answered and closed by now
                        made.shutdown(socket.SHUT_WR)
                    for part in iter(partial(made.recv, 65536), b""):
                        answer += part
                if answer:
                    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
                    assert answer[9:10] in b"234", answer[:200]
                assert program.process.poll() is None
                assert "Traceback" not in program.output(), program.output()[-2000:]

            yield check


@contextmanager
def over_stdio() -> Iterator[Check]:
    """A process; after each input a ping says that it still answers."""
    said: queue.Queue[bytes] = queue.Queue()
    with _folder() as folder, tempfile.TemporaryFile() as log:
        pipe = subprocess.PIPE
        command = [*SERVE, "--pack", str(folder)]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log) as process:
            assert process.stdin
            assert process.stdout
            reading = threading.Thread(target=lambda: [*map(said.put, process.stdout or ())])
            reading.start()
            numbers = itertools.count()
            process.stdin.write(b'{"jsonrpc":"2.0","id":"start","method":"ping"}\n')
            process.stdin.flush()
            said.get(timeout=GONE * 10)  # a machine with much else to do starts slowly

            def check(line: bytes) -> None:
                ping = {"jsonrpc": "2.0", "id": f"fuzz-{next(numbers)}", "method": "ping"}
                assert process.stdin
                process.stdin.write(line + b"\n" + json.dumps(ping).encode() + b"\n")
                process.stdin.flush()
                for row in iter(lambda: json.loads(said.get(timeout=GONE)), None):
                    if isinstance(row, dict) and row.get("id") == ping["id"]:
                        return

            try:
                yield check
            finally:
                process.stdin.close()
                code = process.wait(60)
                reading.join()
                log.seek(0)
                told = log.read()
        assert code == 0, (code, told[-2000:])
        assert b"Traceback" not in told, told[-2000:]
