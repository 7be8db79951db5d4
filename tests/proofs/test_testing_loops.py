"""A pooled connection fails in a test whose loop is not the one that opened it."""

from __future__ import annotations

from pathlib import Path

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.suites import Ran, given, run_suite
from tests.services import Database, Redis

OWN = "asyncio_default_fixture_loop_scope = function\n"
ONE = "asyncio_default_fixture_loop_scope = session\nasyncio_default_test_loop_scope = session\n"

# The session's first fixture, so that its end comes last.
WATCHED = """
import time

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

@pytest.fixture(scope="session", autouse=True)
def one_connection_which_is_closed():
    opened, asked = [], []
    event.listen(Pool, "connect", lambda *_: opened.append(1))
    event.listen(Engine, "before_cursor_execute", lambda *told: asked.append(told[3]))
    yield
    assert (opened, asked[-3:]) == ([1], [(1,), (2,), (3,)])
    with psycopg.connect({dsn!r}, autocommit=True) as connection:
        deadline = time.monotonic() + 5
        left = 1  # the server notices a close some milliseconds late
        while left and time.monotonic() < deadline:
            (left,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
            time.sleep(0.01)
    assert left == 0
"""


def _ran(
    block: Block, folder: Path, database: Database, settings: str = "", conftest: str = ""
) -> Ran:
    files = {
        "test_block.py": given(block, url=repr(database.url())),
        "conftest.py": conftest,
        "pytest.ini": f"[pytest]\n{settings}",
    }
    return run_suite(folder, files)


# Each order tells by which backend it was stored.
WATCH = """
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    ALTER TABLE orders ADD COLUMN backend int DEFAULT pg_backend_pid();
END $$;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION watch();
"""


def test_incorrect_fails_from_the_second_test_on(
    incorrect: Block, tmp_path: Path, database: Database, witness: Witness
) -> None:
    ran = _ran(incorrect, tmp_path, database)
    assert sorted(ran.outcomes) == ["FAILED", "FAILED", "PASSED"], ran.output
    assert ran.tests["test_the_database_answers[1]"] == "PASSED"
    assert "attached to a different loop" in ran.output
    assert "another operation is in progress" in ran.output
    witness.saw(ran.output)
    witness.observed(incorrect="the second and third of 3 tests with one engine failed")


def test_correct_passes_over_one_connection(
    correct: Block, tmp_path: Path, database: Database, witness: Witness
) -> None:
    watched = WATCHED.format(dsn=database.dsn)
    ran = _ran(correct, tmp_path, database, OWN, watched)
    assert (ran.status, ran.outcomes) == (0, ["PASSED"] * 3), ran.output
    witness.observed(correct="3 of 3 tests passed, over 1 connection, which was closed in the end")


def test_two_lines_of_configuration_are_enough(tmp_path: Path, database: Database) -> None:
    block = RuleFile.load("testing-loops").block(correct=False)
    ran = _ran(block, tmp_path, database, ONE)
    assert (ran.status, ran.outcomes) == (0, ["PASSED"] * 3), ran.output


def test_a_session_fixture_in_a_loop_of_a_function_is_refused(
    tmp_path: Path, database: Database, witness: Witness
) -> None:
    block = RuleFile.load("testing-loops").block(correct=False)
    ran = _ran(block, tmp_path, database, OWN)
    assert ran.outcomes == ["ERROR"] * 3
    witness.saw(ran.output)


NULL_POOL = """
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

engine = create_async_engine({url!r}{options})

@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_{name}(number):
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
"""

REDIS = """
import pytest
from redis.asyncio import Redis

client = Redis.from_url({url!r})

@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_redis(number):
    assert await client.ping()
"""

SERVED = """
import asyncio
import httpx
import pytest
import pytest_asyncio

ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nup"

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(ANSWER)

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def url():
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]

@pytest.mark.asyncio(loop_scope="session")
async def test_served_in_the_session(url):
    async with httpx.AsyncClient(timeout=20) as client:
        assert (await client.get(url)).text == "up"

@pytest.mark.asyncio
async def test_served_in_another_loop(url):
    async with httpx.AsyncClient(timeout=0.3) as client:
        await client.get(url)
"""

LEAVES = """
import asyncio
import pytest

kept = {}

async def wait():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        kept["cancelled"] = True
        raise

async def begin():
    kept.clear()
    kept["task"] = asyncio.create_task(wait())
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_leaves_1_begins():
    await begin()

@pytest.mark.asyncio
async def test_leaves_2_was_cancelled():
    assert kept["task"].cancelled() and kept["cancelled"]

@pytest.mark.asyncio(loop_scope="session")
async def test_leaves_3_begins_in_the_session():
    await begin()

@pytest.mark.asyncio(loop_scope="session")
async def test_leaves_4_runs_on():
    assert kept["task"] in asyncio.all_tasks()
"""

OVERRIDE = """
import asyncio
import pytest

loops = []

@pytest.fixture(scope="session")
def event_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()

@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_override(number):
    loops.append(asyncio.get_running_loop())
    assert len(set(loops)) == number
"""

ASKS = """
def test_asks(event_loop):
    pass
"""


def test_what_works_in_loops_of_their_own_and_what_does_not(
    tmp_path: Path, database: Database, redis_server: Redis, witness: Witness
) -> None:
    url = database.url()
    files = {
        "test_a.py": NULL_POOL.format(url=url, options=", poolclass=NullPool", name="null_pool"),
        "test_b.py": NULL_POOL.format(url=url, options="", name="import"),
        "test_c.py": REDIS.format(url=redis_server.url),
        "test_d.py": SERVED,
        "test_e.py": LEAVES,
        "test_f.py": OVERRIDE,
        "test_g.py": ASKS,
        "pytest.ini": f"[pytest]\n{OWN}",
    }
    ran = run_suite(tmp_path, files)
    bad = {name: how for name, how in ran.tests.items() if how != "PASSED"}
    assert bad == {
        "test_import[2]": "FAILED",
        "test_import[3]": "FAILED",
        "test_redis[2]": "FAILED",
        "test_served_in_another_loop": "FAILED",
        "test_asks": "ERROR",
    }
    assert len(ran.tests) == 3 + 3 + 2 + 2 + 4 + 2 + 1
    witness.saw(ran.output)


ANYIO = """
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session")
async def engine():
    engine = create_async_engine({url!r})
    yield engine
    await engine.dispose()

@pytest.mark.parametrize("number", [1, 2, 3])
async def test_fixture(engine, number):
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
"""


def test_the_plugin_of_anyio_needs_the_backend_in_the_scope_of_the_engine(
    tmp_path: Path, database: Database, witness: Witness
) -> None:
    url = database.url()
    whole = ANYIO.format(url=url)
    before, _, after = whole.partition('@pytest.fixture(scope="session")\ndef anyio_backend')
    module = NULL_POOL.format(url=url, options="", name="import").replace(
        "mark.asyncio", "mark.anyio"
    )
    backend = '\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    files = {
        "test_a.py": whole,
        "test_b.py": before + after.partition('"asyncio"\n')[2].replace("fixture(e", "scope(e"),
        "test_0.py": module + backend,
    }
    ran = run_suite(tmp_path, files, plugin="anyio.pytest_plugin")
    ended = {name.replace("asyncio-", ""): how for name, how in ran.tests.items()}
    assert [ended[f"test_fixture[{number}]"] for number in (1, 2, 3)] == ["PASSED"] * 3
    assert ended["test_scope[1]"] == "ERROR"
    assert [ended[f"test_import[{number}]"] for number in (1, 2)] == ["PASSED", "FAILED"]
    witness.saw(ran.output)
