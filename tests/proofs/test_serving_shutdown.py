"""After SIGTERM a stream holds uvicorn without a bound, and with one nobody waits for its end."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Database, Program, serving, serving_process

PATIENCE = 10.0  # seconds; who waits for what never ends waits for less

# What the block is given, and a uvicorn in a hurry: it waits for requests a twentieth as long.
GIVEN = """
import asyncio, os, sys
from types import SimpleNamespace
import anyio, asyncpg, uvicorn

port = int(sys.argv[1])

async def execute(statement):
    connection = await asyncpg.connect(os.environ["DATABASE"])
    await connection.execute(statement)
    await connection.close()

async def ticks(user):
    await execute(f"INSERT INTO present VALUES ({user})")
    try:
        while True:
            yield "data: tick\\n\\n"
            await asyncio.sleep(1)
    finally:
        with anyio.CancelScope(shield=True):
            await execute(f"SELECT pg_sleep(0.3); DELETE FROM present WHERE id = {user}")
            print("left", flush=True)

async def dispose():
    print("disposed", flush=True)

engine = SimpleNamespace(dispose=dispose)
run, wait = uvicorn.run, asyncio.wait

def run_in_a_hurry(app, **options):
    bound = options.get("timeout_graceful_shutdown")
    print("bound", bound, flush=True)
    given = os.environ["GRACE"]
    run(app, **{**options, "timeout_graceful_shutdown": float(given) if given else bound and bound / 20})

def told_wait(tasks, timeout=None, **options):
    print("bound", timeout, flush=True)
    return wait(tasks, timeout=timeout, **options)

uvicorn.run, asyncio.wait = run_in_a_hurry, told_wait
"""

START = """
@app.get("/")
async def root():
    return "here"

main()
print("after run", flush=True)
"""


@contextmanager
def _program(code: str, database: Database, folder: Path, grace: str = "") -> Iterator[Program]:
    """Run a block as a program; where `grace` is given, uvicorn's bound is so many seconds."""
    (folder / "main.py").write_text(f"{GIVEN}\n{code}\n{START}", "utf-8")
    environment = {"DATABASE": database.dsn, "GRACE": grace}
    argv = [sys.executable, str(folder / "main.py"), "{port}"]
    with serving_process(argv, env=environment) as program:
        yield program


def _stop(
    program: Program, *, patience: float = PATIENCE, how: signal.Signals = signal.SIGTERM
) -> int | None:
    """The exit code after a signal, or None where the program still runs."""
    program.process.send_signal(how)
    try:
        return program.process.wait(patience)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _stream(program: Program) -> Iterator[Iterator[str]]:
    """What comes of an open stream, after its first event."""
    with httpx.stream("GET", f"{program.url}/events/1", timeout=30) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream;")
        chunks = stream.iter_text()
        assert next(chunks) == "data: tick\n\n"
        yield chunks


def _told(output: str) -> list[str]:
    return [line for line in output.split("\n") if line in {"left", "disposed", "after run"}]


@pytest.fixture
def present(database: Database) -> Database:
    """A database with the table of who is present."""
    asyncio.run(database.execute("CREATE TABLE present (id int PRIMARY KEY)"))
    return database


def _rows(present: Database) -> int:
    count = asyncio.run(present.fetchval("SELECT count(*) FROM present"))
    assert isinstance(count, int)
    return count


def test_incorrect_runs_until_it_is_killed(
    incorrect: Block, present: Database, tmp_path: Path, witness: Witness
) -> None:
    with _program(incorrect.code, present, tmp_path) as program, _stream(program):
        assert _stop(program, patience=1.5) is None
        program.process.kill()
        program.process.wait()
        output = program.output()
    witness.saw(output)
    assert "Waiting for connections to close." in output
    assert _told(output) == []
    assert _rows(present) == 1
    witness.observed(incorrect="an open stream: runs until it is killed, its row stays")


def test_correct_ends_after_the_last_clean_up(
    correct: Block, present: Database, tmp_path: Path, witness: Witness
) -> None:
    with _program(correct.code, present, tmp_path) as program, _stream(program) as chunks:
        assert _stop(program) == -signal.SIGTERM
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            list(chunks)
        output = program.output()
    witness.saw(output)
    assert _told(output) == ["left", "disposed"]
    assert _rows(present) == 0
    witness.observed(correct="ends in its time, the row is gone, and the pool is closed after it")


def test_the_two_bounds_of_correct_are_less_than_the_30_seconds_of_kubernetes(
    correct: Block, present: Database, tmp_path: Path
) -> None:
    with _program(correct.code, present, tmp_path) as program, _stream(program):
        assert _stop(program) == -signal.SIGTERM
        output = program.output()
    bounds = [int(told) for told in re.findall(r"^bound (\d+)$", output, re.MULTILINE)]
    assert len(bounds) == 2
    assert sum(bounds) == 20  # what the rule says


def test_a_bound_alone_ends_the_process_in_the_middle_of_the_clean_up(
    incorrect: Block, present: Database, tmp_path: Path
) -> None:
    with _program(incorrect.code, present, tmp_path, grace="0.5") as program, _stream(program):
        assert _stop(program) == -signal.SIGTERM
        output = program.output()
    assert _told(output) == ["disposed"]
    assert _rows(present) == 1


@dataclass
class Site:
    """A block that is served in this process, with bounds in a hurry, and what it told."""

    client: httpx.AsyncClient
    app: FastAPI
    told: list[str]


@asynccontextmanager
async def _served(
    block: Block, monkeypatch: pytest.MonkeyPatch, *, hanging: bool = False
) -> AsyncIterator[Site]:
    """Stop after the body as SIGTERM does. A `hanging` clean-up ends after the engine is closed."""
    told: list[str] = []
    closed = asyncio.Event()
    options: dict[str, Any] = {}

    async def ticks(user: int) -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                if hanging:
                    await closed.wait()
                told.append("left")

    async def dispose() -> None:
        told.append("disposed")
        closed.set()

    class Hurried:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def wait(self, tasks: Any, timeout: float) -> None:
            done, late = await asyncio.wait(tasks, timeout=timeout / 10)
            told.append(f"{len(done)} ended, {len(late)} did not")

    monkeypatch.setattr(uvicorn, "run", lambda _, **given: options.update(given))
    engine = SimpleNamespace(dispose=dispose)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a bare generator as a lifespan is deprecated
        module = block.run(engine=engine, ticks=ticks, port=1)
    module.asyncio = Hurried()
    module.main()
    bound = options.get("timeout_graceful_shutdown")
    async with (
        httpx.AsyncClient(timeout=30) as client,
        serving(module.app, timeout_graceful_shutdown=bound and bound / 50) as served,
    ):
        client.base_url = served.url
        yield Site(client, module.app, told)


async def test_a_clean_up_that_hangs_does_not_hold_it(
    correct: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        async with _served(correct, monkeypatch, hanging=True) as site:
            stream = site.client.stream("GET", "/events/1")
            chunks = (await stack.enter_async_context(stream)).aiter_text()
            assert await anext(chunks) == "data: tick\n\n"
        assert site.told == ["0 ended, 1 did not", "disposed", "left"]


async def test_a_request_that_is_cancelled_is_answered_500(
    correct: Block,
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = asyncio.Event()
    async with _served(correct, monkeypatch) as site:

        @site.app.get("/slow")
        async def slow() -> None:
            begun.set()
            await asyncio.sleep(60)

        assert (await site.client.get("/")).status_code == 404  # and is forgotten
        asking = asyncio.create_task(site.client.get("/slow"))
        await begun.wait()
    assert (await asking).status_code == 500
    assert site.told == ["1 ended, 0 did not", "disposed"]
    witness.saw(caplog.text)


async def test_a_background_task_counts_and_a_task_of_ones_own_does_not(
    correct: Block,
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tasks: list[asyncio.Task[None]] = []
    async with _served(correct, monkeypatch) as site:

        @site.app.get("/jobs")
        async def jobs(background: BackgroundTasks) -> None:
            background.add_task(asyncio.sleep, 60)
            tasks.append(asyncio.create_task(asyncio.sleep(60)))

        assert (await site.client.get("/jobs")).status_code == 200
    assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in caplog.messages
    assert site.told == ["1 ended, 0 did not", "disposed"]
    assert not tasks[0].done()
    tasks[0].cancel()
    witness.saw(*caplog.messages)


async def test_a_task_that_is_client_and_lifespan_waits_for_others_and_not_for_itself(
    correct: Block,
) -> None:
    told: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def ticks(user: int) -> AsyncIterator[str]:
        yield "data: tick\n\n"
        if user == 2:
            begun.set()
            await go_on.wait()

    async def dispose() -> None:
        told.append("disposed")

    class Told:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def wait(self, tasks: Any, timeout: float) -> None:
            told.append(f"waits for {len(tasks)}")
            go_on.set()
            await asyncio.wait(tasks, timeout=timeout)

    module = correct.run(engine=SimpleNamespace(dispose=dispose), ticks=ticks, port=1)
    module.asyncio = Told()
    transport = httpx.ASGITransport(module.app)
    async with (
        module.app.router.lifespan_context(module.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        assert (await client.get("/events/1")).text == "data: tick\n\n"
        other = asyncio.create_task(client.get("/events/2"))
        await begun.wait()
    assert told == ["waits for 1", "disposed"]
    assert other.done()


def test_a_second_ctrl_c_ends_it_up_to_python_3_11(present: Database, tmp_path: Path) -> None:
    code = RuleFile.load("serving-shutdown").block(correct=False).code
    with _program(code, present, tmp_path) as program, _stream(program):
        assert _stop(program, how=signal.SIGINT, patience=0.5) is None
        ends = sys.version_info < (3, 12)
        ended = _stop(program, how=signal.SIGINT, patience=PATIENCE if ends else 1)
        assert (ended is not None) is ends
        assert "disposed" not in program.output()
