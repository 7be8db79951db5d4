"""A process that is started without stdin, stdout or stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.packs import own
from tests.services import serving_process

pytestmark = pytest.mark.skipif(os.name == "nt", reason="closes descriptors with a shell")

CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
PING = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping"}).encode() + b"\n"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return own(tmp_path / "pack")


def without(names: tuple[str, ...], *arguments: str) -> list[str]:
    """The command line of `packlore` with these streams closed."""
    closing = " ".join(CLOSED[name] for name in names)
    return ["bash", "-c", f'exec "$@" {closing}', "-", sys.executable, "-m", "packlore", *arguments]


@pytest.mark.parametrize("names", [("stdin",), ("stdout",), ("stdin", "stdout")])
def test_over_stdio_a_closed_side_ends_the_server_in_one_clear_line(
    pack: Path, names: tuple[str, ...]
) -> None:
    command = without(names, "serve", "--pack", str(pack))
    done = subprocess.run(command, input=PING, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        f"packlore: {' and '.join(names)} closed: a client writes to stdin and reads stdout; "
        "with --http it needs neither\n"
    )


def test_over_stdio_a_server_without_stderr_answers(pack: Path) -> None:
    command = without(("stderr",), "serve", "--pack", str(pack))
    done = subprocess.run(command, input=PING, capture_output=True, check=False, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["id"]) == (0, 7)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_over_http_no_connection_gets_the_descriptor_of_a_closed_stream(
    pack: Path, workers: str
) -> None:
    options = ["--http", "--port", "{port}", "--workers", workers, "--pack", str(pack)]
    with serving_process(without(tuple(CLOSED), "serve", *options), path="/health") as program:
        assert httpx.get(f"{program.url}/health", timeout=30).status_code == 200
        if sys.platform != "linux":
            return
        main = program.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for each in (str(main), *children):
            for number in (0, 1, 2):
                assert str(Path(f"/proc/{each}/fd/{number}").readlink()) == os.devnull


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("command", [["list"], ["show", "asyncio-timeout"], ["search", "bound"]])
def test_a_command_that_answers_one_question_ends_well(
    pack: Path, name: str, command: list[str]
) -> None:
    called = without((name,), *command, "--pack", str(pack))
    done = subprocess.run(called, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
