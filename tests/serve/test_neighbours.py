"""Neighbours that do harm or are slow: what they take is bounded, and others are served."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from packlore.serve.connections import FEWEST, SPARE
from packlore.serve.connections import Limits as Open
from packlore.serve.drain import GRACE
from packlore.serve.log import MAX_WAITING
from packlore.serve.requests import Limits
from packlore.serve.stdio import MOST
from tests.packs import own
from tests.serve.test_http import HEADERS, INITIALIZE, serving
from tests.serve.test_server import HANDSHAKE, call
from tests.services import Program, serving_process
from tests.services.process import HOST, free_port

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, /proc and pipes of POSIX")

LISTEN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "subscriptions/listen",
    "params": {
        "notifications": {"resourcesListChanged": True},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
REQUESTS = 1_000
"""Over the restarts of a server."""
PATIENT = 60
"""Seconds that a client waits."""
MODERN = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own(tmp_path_factory.mktemp("pack"))


def raw(program: Program, data: bytes) -> socket.socket:
    """A connection on which `data` was sent."""
    made = socket.create_connection((HOST, program.port), timeout=30)
    made.sendall(data)
    return made


def request(
    body: bytes,
    *,
    path: str = "/mcp",
    host: str = "localhost",
    length: int | None = None,
    more: str = "",
) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    head += more
    head += f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def healthy(program: Program) -> bool:
    return httpx.get(f"{program.url}/health", timeout=30).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/mcp", "/mcp/", "/anything"])
def test_what_is_asked_of_another_host_is_refused(folder: Path, path: str) -> None:
    with serving(folder) as program:
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "evil.example:80",
            "localhost:80evil",
            "localhost:80:80",
            "",
        ):
            with raw(program, request(b"{}", path=path, host=host)) as made:
                assert made.recv(12) == b"HTTP/1.1 421", host
        for host in ("localhost", "LOCALHOST:1", f"127.0.0.1:{program.port}", "[::1]:80"):
            with raw(program, request(b"{}", path="/health", host=host)) as made:
                assert made.recv(12) == b"HTTP/1.1 200", host


def test_half_requests_take_no_place_of_whole_ones(folder: Path) -> None:
    """As many as there are places, half a body each, and as many half headers."""
    with ExitStack() as open_connections:
        program = open_connections.enter_context(serving(folder))
        for number in range(Limits.concurrency + 1):
            data = request(b"{", length=100) if number % 2 else b"POST /mcp HTTP/1.1\r\nHost: l"
            open_connections.enter_context(raw(program, data))
        assert httpx.post(f"{program.url}/mcp", json=INITIALIZE, headers=HEADERS, timeout=30)
        assert healthy(program)


def test_of_one_client_the_oldest_half_request_is_given_up(folder: Path) -> None:
    with ExitStack() as open_connections:
        program = open_connections.enter_context(serving(folder))
        first = open_connections.enter_context(raw(program, b"POST /mcp HT"))
        time.sleep(2 * Open.soon)
        for _ in range(Open.of_client):
            open_connections.enter_context(raw(program, b"POST /mcp HT"))
        first.settimeout(30)
        with suppress(ConnectionResetError):
            assert first.recv(1) == b""


def test_headers_that_never_end_are_given_up(folder: Path) -> None:
    with serving(folder) as program, raw(program, b"POST /mcp HTTP/1.1\r\n") as made:
        made.settimeout(Open.headers * 6)
        ended = threading.Event()

        def drip() -> None:
            for _ in range(200):
                try:
                    made.sendall(b"a: b\r\n")
                except OSError:
                    return
                if ended.wait(0.5):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert made.recv(1) == b""
        except ConnectionResetError:
            pass
        finally:
            ended.set()
            dripping.join()
        assert healthy(program)


@pytest.mark.parametrize(("files", "half"), [(SPARE + FEWEST, 2 * FEWEST), (256, 300)])
def test_with_few_descriptors_it_serves_and_says_little(
    folder: Path, files: int, half: int
) -> None:
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--port", "{port}"]
    limited = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "-", *command, "--pack", str(folder)]
    with ExitStack() as open_connections:
        program = open_connections.enter_context(serving_process(limited, path="/health"))
        for _ in range(3):
            for _ in range(half):
                open_connections.enter_context(raw(program, b"POST /mcp HT"))
            assert healthy(program)
        assert len(program.output()) < 20_000


def test_streams_have_places_of_their_own_and_end_with_the_server(folder: Path) -> None:
    with ExitStack() as open_connections:
        program = open_connections.enter_context(serving(folder, "--watch"))
        streams = [
            open_connections.enter_context(raw(program, listen(f"192.0.2.{number % 5}")))
            for number in range(Limits.streams + 1)
        ]
        answers = [each.recv(12) for each in streams]
        assert answers[:-1] == [b"HTTP/1.1 200"] * Limits.streams
        assert answers[-1] == b"HTTP/1.1 503"
        assert healthy(program)
        assert program.terminate(60) in (0, -signal.SIGTERM)
        for each in streams[:-1]:
            rest = b""
            while data := each.recv(65536):
                rest += data
            assert rest.endswith(b"0\r\n\r\n"), "the stream came to its end"
        assert "Traceback" not in program.output()


def listen(client: str) -> bytes:
    """What opens a stream, said by a proxy on this machine to come from a client."""
    more = f"{MODERN}X-Forwarded-For: {client}\r\n"
    return request(json.dumps(LISTEN).encode(), more=more)


def test_one_client_has_a_share_of_the_streams(folder: Path) -> None:
    with ExitStack() as open_connections:
        program = open_connections.enter_context(serving(folder, "--watch"))
        clients = ["192.0.2.1"] * (Limits.streams_of_client + 1) + ["192.0.2.2"]
        streams = [open_connections.enter_context(raw(program, listen(each))) for each in clients]
        answers = [each.recv(12) for each in streams]
        assert answers[:-2] == [b"HTTP/1.1 200"] * Limits.streams_of_client
        assert answers[-2:] == [b"HTTP/1.1 503", b"HTTP/1.1 200"]


def test_without_watch_there_is_no_stream_to_open(folder: Path) -> None:
    asked = request(json.dumps(LISTEN).encode(), more=MODERN)
    with serving(folder) as program, raw(program, asked) as made:
        assert made.recv(12) == b"HTTP/1.1 404"


@contextmanager
def served_at(port: int, folder: Path, workers: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server at this very port, as one that is started again has it."""
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--pack", str(folder)]
    command += ["--port", str(port), "--workers", workers]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def once(client: http.client.HTTPConnection, *, keeps: bool) -> int:
    """The status of one answer, on the connection that is open or else on a new one."""
    body = json.dumps(INITIALIZE)
    until = time.monotonic() + PATIENT
    while client.sock is None:
        try:
            client.connect()
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.02)
    client.request("POST", "/mcp", body, {**HEADERS, **({} if keeps else {"Connection": "close"})})
    answer = client.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.timeout(300)
def test_of_a_thousand_requests_over_three_restarts_none_is_lost(
    folder: Path, workers: str, keeps: bool
) -> None:
    """Clients retry a refused connect and nothing else."""
    port, left = free_port(), iter(range(REQUESTS))
    lost: list[str] = []
    answered: list[int] = []

    def ask() -> None:
        client = http.client.HTTPConnection(HOST, port, timeout=PATIENT)
        for _ in left:
            try:
                answered.append(once(client, keeps=keeps))
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
                client.close()
        client.close()

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for each in asking:
        each.start()
    for part in (1, 2, 3, 4):
        with served_at(port, folder, workers) as process:
            while len(answered) + len(lost) < REQUESTS * part // 4:
                assert process.poll() is None
                time.sleep(0.005)
            if part == 4:  # nobody asks any more
                for each in asking:
                    each.join(PATIENT)
            process.terminate()
            assert process.wait(60) in (0, -signal.SIGTERM)
    assert lost == []
    assert answered == [200] * REQUESTS


def test_workers_end_with_their_parent(folder: Path) -> None:
    with serving(folder, "--workers", "2") as program:
        os.kill(program.process.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection((HOST, program.port), timeout=5).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.1)
        pytest.fail("somebody still listens")


@contextmanager
def over_stdio(*, stderr: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "packlore", "serve"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for each in (process.stdin, process.stdout):
            with suppress(OSError):
                each.close()  # type: ignore[union-attr]


def lines(*messages: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in messages)


def test_a_log_that_nobody_reads_holds_nobody_up(folder: Path) -> None:
    command = [sys.executable, "-m", "packlore", "serve", "--http", "--port", "0"]
    with subprocess.Popen(
        [*command, "--pack", str(folder)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stderr
            said = process.stderr.readline().decode()
            url = said.strip().rpartition(" ")[2].removesuffix("/mcp")
            path = "/" + "x" * 190  # 65,536 bytes of a pipe are full after some 300 lines
            with httpx.Client(timeout=60) as client:
                for _ in range(MAX_WAITING + 700):
                    assert client.get(f"{url}{path}").status_code in (404, 405)
            port = int(url.rpartition(":")[2])
            for _ in range(2_500):  # uvicorn says of each that it is none
                with socket.create_connection((HOST, port), timeout=30) as made:
                    made.sendall(b"\x16\x03\x01\r\n\r\n")
                    assert made.recv(12) == b"HTTP/1.1 400"
        finally:
            process.kill()


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    with over_stdio() as process:
        assert process.stdin
        read = {"name": "read_rules", "arguments": {"ids": ["asyncio-taskgroup"]}}
        sent = 0

        def feed() -> None:
            nonlocal sent
            assert process.stdin
            process.stdin.write(lines(*HANDSHAKE))
            for number in range(1, 20_000):
                message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": read}
                try:
                    process.stdin.write(lines(message))
                    process.stdin.flush()
                except OSError:
                    return
                sent = number

        feeding = threading.Thread(target=feed, daemon=True)
        feeding.start()
        before = -1
        while before != sent:
            before = sent
            feeding.join(3)
        assert feeding.is_alive(), "all 20,000 requests were taken"
        assert sent < 2_000 + MOST


def test_a_client_that_closes_its_side_ends_the_server_quietly(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as log, over_stdio(stderr=log.fileno()) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(lines(*HANDSHAKE))
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(lines(call(1)))
        process.stdin.flush()
        assert process.wait(60) in (0, 1)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_the_end_comes_within_its_grace(folder: Path) -> None:
    with serving(folder) as program:
        start = time.monotonic()
        assert program.terminate(60) in (0, -signal.SIGTERM)
        assert time.monotonic() - start < 20 * GRACE


STUCK = """
import functools, sys, time
from packlore.cli.commands import main
from packlore.serve import drain, run, stdio, tools
run.STOP_TIMEOUT, drain.LAST, stdio.PATIENCE, find = 1, 0.5, 0.5, tools.Tools.find_rules

@functools.wraps(find)
def stuck(self, query, **more):
    print("stuck", file=sys.stderr, flush=True)
    time.sleep(600)

tools.Tools.find_rules = stuck
main(["serve", "--pack", "{folder}", *sys.argv[1:]])
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_thread_that_works_on_holds_no_process_up(folder: Path, how: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-c", STUCK.replace("{folder}", str(folder))]
    with subprocess.Popen(
        [*command, "--http", "--port", str(port)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stderr
            process.stderr.readline()
            asked = {"name": "find_rules", "arguments": {"query": "x"}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked}
            with socket.create_connection((HOST, port), timeout=30) as made:
                made.sendall(request(json.dumps(body).encode()))
                assert process.stderr.readline().strip() == b"stuck"
                process.send_signal(how)
                assert process.wait(60) == 0
            told = process.stderr.read().decode()
        finally:
            process.kill()
    assert told.splitlines()[-1] == (
        "packlore: it ends without the answers of requests that still run"
    )


def test_over_stdio_a_thread_that_works_on_holds_no_process_up(folder: Path) -> None:
    command = [sys.executable, "-c", STUCK.replace("{folder}", str(folder))]
    asked = {"name": "find_rules", "arguments": {"query": "x"}}
    messages = (*HANDSHAKE, {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": asked})
    done = subprocess.run(
        command, input=lines(*messages), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == [
        "stuck",
        "packlore: it ends without the answers of 1 requests",
    ]
