"""asyncpg's pool waits for ever and resets settings, unless it is told otherwise."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.proofs.harness import Block, Witness
from tests.proofs.network import Network
from tests.services import Database, free_port
from tests.services.process import HOST

KILL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `create_pool` is told; it gets a tenth of the seconds, and one connection at once."""
    given: dict[str, Any] = {}
    make = asyncpg.create_pool
    seconds = ("timeout", "command_timeout", "max_inactive_connection_lifetime")

    def make_hurried(dsn: str, **options: Any) -> Any:
        given.update(options)
        options |= {name: options[name] / 10 for name in seconds if name in options}
        return make(dsn, **options)

    monkeypatch.setattr(asyncpg, "create_pool", make_hurried)
    return given


@asynccontextmanager
async def _running(
    block: Block, database: Database, dsn: str | None = None
) -> AsyncIterator[tuple[Any, Any]]:
    """The block's module and its open pool."""
    await database.execute("CREATE TABLE orders (id int)")
    module = block.run(dsn=dsn or database.dsn)
    pool = await module.open_pool()
    try:
        yield module, pool
    finally:
        async with asyncio.timeout(10):
            await pool.close()


async def _outcome(work: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Its result or error; None where it has not ended in time and is cancelled."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    return None if task.cancelled() else task.exception() or task.result()


async def _while_all_are_out(block: Block, database: Database, seconds: float) -> Any:
    """What a request gets while all connections are out, if it gets it in time."""
    async with _running(block, database) as (module, pool):
        assert await module.count_orders(pool) == 0
        out = [await pool.acquire() for _ in range(pool.get_max_size())]
        try:
            assert len(out) in (8, 10)  # of Correct, and the default
            return await _outcome(module.count_orders(pool), seconds)
        finally:
            for each in out:
                await pool.release(each)


async def _settings(block: Block, database: Database) -> list[str]:
    """The statement timeout that each of three uses of one connection sees."""
    async with _running(block, database) as (_, pool):
        others = [await pool.acquire() for _ in range(pool.get_max_size() - 1)]
        seen = [await pool.fetchval("SHOW statement_timeout") for _ in range(3)]
        for each in others:
            await pool.release(each)
    return seen


async def test_incorrect_waits_without_an_end(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _while_all_are_out(incorrect, database, seconds=2) is None


async def test_incorrect_loses_the_setting_with_the_first_release(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _settings(incorrect, database) == ["2s", "0", "0"]
    witness.observed(
        incorrect="pool exhausted: no answer in 2 s; statement_timeout of three uses: 2s, 0, 0"
    )


async def test_correct_ends_the_wait(correct: Block, database: Database, witness: Witness) -> None:
    outcome = await _while_all_are_out(correct, database, seconds=6)
    assert type(outcome) is TimeoutError


async def test_correct_keeps_the_setting(
    correct: Block, database: Database, witness: Witness
) -> None:
    assert await _settings(correct, database) == ["2s"] * 3
    witness.observed(correct="pool exhausted: TimeoutError; statement_timeout: 2s, 2s, 2s")


async def test_correct_ends_a_slow_query_and_keeps_the_connection(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _running(correct, database) as (_, pool):
        await pool.fetchval("SELECT 7")  # the setting holds from the second use on as well
        async with pool.acquire() as connection:
            outcome = await _outcome(connection.fetchval("SELECT pg_sleep(20)"), seconds=8)
            assert isinstance(outcome, asyncpg.QueryCanceledError)
            assert await connection.fetchval("SELECT 7") == 7
    witness.saw(outcome)


async def test_correct_gives_a_silent_server_up(
    correct: Block, database: Database, witness: Witness, asked: dict[str, Any]
) -> None:
    async with Network(database) as network:
        dsn = network.url().replace("+asyncpg", "")
        async with _running(correct, database, f"{dsn}?sslmode=disable") as (module, pool):
            assert await module.count_orders(pool) == 0
            network.fall_silent()
            outcome = await _outcome(module.count_orders(pool), seconds=10)
            network.end_connections()
    assert type(outcome) is TimeoutError
    assert asked["command_timeout"] == 5


async def test_correct_bounds_the_opening_of_a_connection(
    correct: Block, asked: dict[str, Any]
) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    port = free_port()
    module = correct.run(dsn=f"postgresql://postgres@{HOST}:{port}/orders")
    async with await asyncio.start_server(accept, HOST, port):
        outcome = await _outcome(module.open_pool(), seconds=10)
    assert type(outcome) is TimeoutError
    assert asked["timeout"] == 5


async def test_correct_opens_two_connections_and_tells_how_long_they_may_be_idle(
    correct: Block, database: Database, asked: dict[str, Any]
) -> None:
    async with _running(correct, database) as (_, pool):
        assert (pool.get_size(), pool.get_min_size(), pool.get_max_size()) == (2, 2, 8)
        assert await pool.fetchval("SHOW tcp_keepalives_idle") == "60"
    assert asked["max_inactive_connection_lifetime"] == 180


async def test_a_querys_timeout_does_not_bound_the_wait(database: Database) -> None:
    async with asyncpg.create_pool(
        database.dsn, min_size=1, max_size=1, command_timeout=0.1
    ) as pool:
        async with pool.acquire():
            assert await _outcome(pool.fetchval("SELECT 7", timeout=0.1), seconds=1) is None
        assert await pool.fetchval("SELECT 7") == 7
        assert type(await _outcome(pool.fetchval("SELECT pg_sleep(9)"), seconds=8)) is TimeoutError


async def test_init_runs_once_for_a_connection_and_setup_on_every_acquire(
    database: Database,
) -> None:
    ran = []

    async def init(connection: Any) -> None:
        ran.append("init")
        await connection.set_type_codec(
            "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )

    async def setup(connection: Any) -> None:
        ran.append("setup")
        await connection.execute("SET statement_timeout = '2s'")

    async with asyncpg.create_pool(
        database.dsn, min_size=1, max_size=1, init=init, setup=setup
    ) as pool:
        for _ in range(3):
            row = await pool.fetchrow("SELECT '[7]'::jsonb, current_setting('statement_timeout')")
            assert tuple(row) == ([7], "2s")
    assert ran == ["init", "setup", "setup", "setup"]


async def test_a_setting_of_the_database_survives_the_reset(database: Database) -> None:
    await database.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '2s'")
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=1) as pool:
        for _ in range(2):
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW statement_timeout") == "2s"
                await connection.execute("SET statement_timeout = '9s'")


async def test_acquire_replaces_connections_that_the_server_ended(database: Database) -> None:
    async with asyncpg.create_pool(database.dsn, min_size=2, max_size=2) as pool:
        async with pool.acquire() as first, pool.acquire() as second:
            connections = [first._con, second._con]
        await database.fetch(KILL, database.name)
        async with asyncio.timeout(10):
            while not all(each.is_closed() for each in connections):
                await asyncio.sleep(0.01)
            assert await asyncio.gather(*(pool.fetchval("SELECT 7") for _ in range(2))) == [7, 7]


async def test_close_waits_for_connections_that_are_out(database: Database) -> None:
    pool = await asyncpg.create_pool(database.dsn, min_size=1, max_size=1)
    await pool.acquire()
    assert await _outcome(pool.close(), seconds=0.5) is None
    pool.terminate()
    await database.left()


async def test_idle_connections_are_closed_down_to_min_size_or_below_it(
    database: Database,
) -> None:
    defaults = inspect.signature(asyncpg.create_pool).parameters
    assert defaults["max_inactive_connection_lifetime"].default == 300
    assert (defaults["min_size"].default, defaults["max_size"].default) == (10, 10)
    kept = 0 if asyncpg.__version__ == "0.29.0" else 1
    async with asyncpg.create_pool(
        database.dsn, min_size=1, max_size=2, max_inactive_connection_lifetime=0.2
    ) as pool:
        async with pool.acquire(), pool.acquire():
            assert pool.get_size() == 2
        async with asyncio.timeout(10):
            while pool.get_size() > kept:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert pool.get_size() == kept
