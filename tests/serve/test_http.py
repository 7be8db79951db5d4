"""Serving a team over HTTP: who is let in, what one request may use, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from packlore.serve.requests import Limits, bound, limit
from packlore.serve.run import TOKEN
from tests.packs import own, rule, write
from tests.services import Program, ServiceFailed, serving_process

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@contextmanager
def serving(folder: Path, *arguments: str, **environ: str) -> Iterator[Program]:
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--port", "{port}"]
    with serving_process(
        [*command, "--pack", str(folder), *arguments],
        env={**os.environ, **environ},
        path="/health",
    ) as program:
        yield program


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = own(tmp_path_factory.mktemp("pack"))
    with serving(
        folder, "--allowed-origin", "https://good.example", **{TOKEN: "s3cret"}
    ) as program:
        yield program


def post(program: Program, body: Any = INITIALIZE, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**HEADERS, "Authorization": "Bearer s3cret", **headers}
    return httpx.post(f"{program.url}/mcp", content=content, headers=given, timeout=30)


def test_the_health_needs_no_token_and_says_what_is_served(served: Program) -> None:
    answer = httpx.get(f"{served.url}/health")
    assert answer.json() == {"status": "ok", "version": "1.2.3", "rules": 1}


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer s3cre", "Basic s3cret", "s3cret", "é"])
def test_a_wrong_token_is_refused(served: Program, given: str) -> None:
    answer = httpx.post(
        f"{served.url}/mcp",
        json=INITIALIZE,
        headers=[
            (b"Authorization", given.encode()),
            *((k.encode(), v.encode()) for k, v in HEADERS.items()),
        ],
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_empty_token_is_refused_at_the_start(tmp_path: Path) -> None:
    """A variable that some compose file left empty must not open the server to everyone."""
    refused = pytest.raises(ServiceFailed, match=f"{TOKEN} is empty: set a token, or unset it")
    with refused, serving(own(tmp_path), **{TOKEN: ""}):
        pass


@pytest.mark.skipif(os.name == "nt", reason="variables are text there")
def test_a_token_that_is_no_text_is_refused_at_the_start(tmp_path: Path) -> None:
    refused = pytest.raises(ServiceFailed, match=f"packlore: {TOKEN} is no UTF-8: set a token of")
    with refused, serving(own(tmp_path), **{TOKEN: os.fsdecode(b"\xff\xfe")}):
        pass


@pytest.mark.skipif(os.name == "nt", reason="has no such limit")
@pytest.mark.parametrize("files", [64, 79])
def test_too_few_descriptors_are_refused_at_the_start(tmp_path: Path, files: int) -> None:
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--port", "{port}"]
    limited = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "-", *command]
    said = f"packlore: this process may open {files} files, and a server needs 80: allow it more"
    refused = pytest.raises(ServiceFailed, match=said)
    with refused, serving_process([*limited, "--pack", str(own(tmp_path))], path="/health"):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_the_address_that_is_told_can_be_opened(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--port", "0", "--host", "::1"]
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    with subprocess.Popen(
        [*command, "--pack", str(own(tmp_path))], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr
            url = process.stderr.readline().split()[-1]
            assert url.startswith("http://[::1]:")
            answer = httpx.get(url.replace("/mcp", "/health"), timeout=30)
            assert answer.json()["status"] == "ok"
        finally:
            process.terminate()


def test_the_right_token_is_served(served: Program) -> None:
    answer = post(served)
    assert answer.status_code == 200
    assert answer.json()["result"]["serverInfo"]["name"] == "packlore"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://good.example"}, 200),
        ({"Content-Type": "text/plain"}, 400),
    ],
)
def test_hosts_and_origins_are_those_that_are_allowed(
    served: Program, headers: dict[str, str], status: int
) -> None:
    assert post(served, **headers).status_code == status


def test_a_body_beyond_the_limit_is_refused(served: Program) -> None:
    body = {**INITIALIZE, "params": {"text": "x" * (Limits.body + 1)}}
    assert post(served, body).status_code == 413
    assert post(served).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_what_needs_a_session_is_refused(served: Program, method: str) -> None:
    """A GET would keep a stream open on which nothing ever comes."""
    headers = {"Authorization": "Bearer s3cret", "Accept": "text/event-stream"}
    answer = httpx.request(method, f"{served.url}/mcp", headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://good.example", 200), ("http://localhost:6274", 200), ("https://bad.example", 400)],
)
def test_a_browser_may_ask_from_an_allowed_origin(
    served: Program, origin: str, status: int
) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,mcp-protocol-version",
    }
    preflight = httpx.options(f"{served.url}/mcp", headers=asked, timeout=30)
    assert preflight.status_code == status
    answer = post(served, Origin=origin)
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    assert (answer.status_code, allowed) == ((200, origin) if status == 200 else (403, None))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"id": "x" * 2_000}, "the id has 2,000 characters, at most 1,024"),
        ({"method": "x" * 2_000}, "the method has 2,000 characters, at most 1,024"),
        ({"params": {"uri": "x" * 2_000}}, "the uri has 2,000 characters, at most 1,024"),
        ({"params": {"more": "x" * 2_000}, "id": "y" * 1_024}, ""),
        ({"id": [], "method": {}, "params": ["x" * 2_000]}, ""),
    ],
)
def test_what_answers_would_repeat_is_short(
    served: Program, changed: dict[str, object], told: str
) -> None:
    answer = post(served, {**INITIALIZE, "method": "resources/read", **changed})
    assert len(answer.content) < 4_000
    assert ("at most" in answer.text) == bool(told)
    if told:
        assert answer.status_code == 400
        assert answer.json()["error"] == {"code": -32600, "message": told}


@pytest.mark.parametrize("body", [b"x" * 2_000, b"[" * 100_000, b"\xff" * 2_000, b"1" * 5_000])
def test_a_long_body_that_is_no_json_gets_a_short_answer(served: Program, body: bytes) -> None:
    answer = post(served, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)
    assert len(answer.content) < 200


async def test_one_client_has_a_share_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(Limits, "concurrency", 3)
    monkeypatch.setattr(Limits, "of_client", 1)
    go = asyncio.Event()
    sent: dict[str, list[Any]] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limited = limit(app)

    def ask(client: str) -> asyncio.Future[None]:
        said = sent.setdefault(client, [])

        async def send(message: Any) -> None:
            said.append(message.get("status") or message["body"])

        scope = {"type": "http", "client": (client, 1)}
        return asyncio.ensure_future(limited(scope, None, send))  # type: ignore[arg-type]

    asked = [ask(each) for each in ("a", "a", "b", "c", "d")]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*asked)
    await ask("a")
    assert sent == {
        "a": [503, b"too many requests at once of one client\n", 200, 200],
        "b": [200],
        "c": [200],
        "d": [503, b"too many requests at once\n"],
    }


async def test_requests_beyond_the_limit_are_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    monkeypatch.setattr(Limits, "concurrency", 1)
    go = asyncio.Event()
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message.get("status"))

    limited = limit(app)
    first = asyncio.ensure_future(limited({"type": "http"}, None, send))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await limited({"type": "http"}, None, send)  # type: ignore[arg-type]
    go.set()
    await first
    await limited({"type": "http"}, None, send)  # type: ignore[arg-type]
    assert [each for each in sent if each] == [503, 200, 200]


def test_who_leaves_before_the_end_of_the_body_is_one_line_of_log(tmp_path: Path) -> None:
    with serving(own(tmp_path)) as program:
        with socket.create_connection(("127.0.0.1", program.port), timeout=10) as client:
            client.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert post(program).status_code == 200
        program.terminate()
        told = program.output()
    lines = [line.split()[:4] for line in told.splitlines() if " POST " in line]
    assert sorted(lines) == [["127.0.0.1", "POST", "/mcp", status] for status in ("0", "200")]
    assert "Traceback" not in told


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_clients_of_both_eras_are_served_by_several_workers(
    tmp_path: Path, mode: str
) -> None:
    with serving(own(tmp_path), "--workers", "2") as program:
        for _ in range(6):
            async with Client(f"{program.url}/mcp", mode=mode) as client:
                result = await client.call_tool("find_rules", {"query": "bound each call"})
                assert "asyncio-timeout" in str(result.content)


def test_a_request_is_one_line_of_log_whatever_its_path(tmp_path: Path) -> None:
    with serving(own(tmp_path)) as program:
        post(program)
        httpx.get(f"{program.url}/a%0Ab%1B[31m")
        program.terminate()  # a line is written when its answer is out already
        lines = [line for line in program.output().splitlines() if " GET /a" in line]
        assert [line.split()[2] for line in lines] == [r"/a\nb\u001b[31m"]
        (line,) = [line for line in program.output().splitlines() if " POST /mcp " in line]
        assert line.split()[:4] == ["127.0.0.1", "POST", "/mcp", "200"]


@pytest.mark.skipif(sys.platform != "linux", reason="has all of 127.0.0.0/8")
@pytest.mark.parametrize(
    ("named", "proxy", "client"),
    [
        (None, "127.0.0.1", "192.0.2.7"),
        (None, "127.0.0.2", "127.0.0.2"),
        ("127.0.0.2", "127.0.0.2", "192.0.2.7"),
        ("", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_client_is_whom_a_named_proxy_says(
    tmp_path: Path, named: str | None, proxy: str, client: str
) -> None:
    environ = {} if named is None else {"FORWARDED_ALLOW_IPS": named}
    transport = httpx.HTTPTransport(local_address=proxy)
    with serving(own(tmp_path), **environ) as program, httpx.Client(transport=transport) as asking:
        asking.get(f"{program.url}/told", headers={"X-Forwarded-For": "192.0.2.7"})
        program.terminate()  # a line is written when its answer is out already
        (line,) = [line for line in program.output().splitlines() if " GET /told " in line]
    assert line.split()[0] == client


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_a_worker_that_starts_later_says_that_the_pack_has_changed(tmp_path: Path) -> None:
    folder = own(tmp_path)
    with serving(folder, "--workers", "2") as program:
        assert "have changed" not in program.output()
        write(folder, {"rules/asyncio-new.md": rule("New")})
        children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
        os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
        end = time.monotonic() + 30
        while "the packs have changed since the start" not in program.output():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_stops_it_cleanly(tmp_path: Path, workers: str) -> None:
    with serving(own(tmp_path), "--workers", workers) as program:
        assert post(program).status_code == 200
        assert program.terminate() in (0, -signal.SIGTERM)
        assert "Traceback" not in program.output()


async def test_a_changed_rule_is_served_and_a_broken_edit_is_not(tmp_path: Path) -> None:
    import anyio

    folder = own(tmp_path)
    path = folder / "rules" / "asyncio-timeout.md"

    async def eventually(program: Program, text: str) -> None:
        with anyio.fail_after(30):
            while text not in program.output():  # noqa: ASYNC110 of another process
                await anyio.sleep(0.05)

    async def show(program: Program) -> str:
        async with Client(f"{program.url}/mcp") as client:
            return str((await client.call_tool("read_rules", {"ids": ["asyncio-timeout"]})).content)

    with serving(folder, "--watch") as program:
        path.write_text("---\ntitle: [broken\n---\n# Broken\n")
        await eventually(program, "kept the last good state: rules/asyncio-timeout.md")
        assert "Bound each call" in await show(program)
        write(folder, {"rules/asyncio-timeout.md": rule("Bound every call")})
        await eventually(program, "read again: 1 rules")
        assert "Bound every call" in await show(program)
        write(folder, {"rules/asyncio-new.md": rule("New")})
        await eventually(program, "read again: 2 rules")
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{program.url}/health")).json()["rules"] == 2


@pytest.mark.parametrize("started", [False, True])
async def test_a_request_is_bounded_until_its_answer_starts(
    monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    import asyncio

    monkeypatch.setattr(Limits, "seconds", 0.05)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.5)

    async def send(message: Any) -> None:
        sent.append(message.get("status"))

    await bound(app)({"type": "http"}, None, send)  # type: ignore[arg-type]
    assert sent[0] == (200 if started else 408)
    assert len(sent) == (1 if started else 2)


async def test_the_start_of_an_answer_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read what it was sent before holds it up."""
    import asyncio

    monkeypatch.setattr(Limits, "seconds", 0.05)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message.get("status") == 200:
            await asyncio.sleep(30)
        sent.append(message.get("status"))

    await bound(app)({"type": "http"}, None, send)  # type: ignore[arg-type]
    assert sent == [408, None]
