"""Upgrades that start together leave one applied migration only with a lock that is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import psycopg
import pytest
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.migrations import (
    Times,
    alembic_in_process,
    sleep,
    tables,
    timeout,
    upgrade,
    write_project,
)
from tests.services import Database, PgBouncer

# The migration stops at this lock until the test lets it go.
GATE = 1
CREATE_ORDERS = f"""\
from alembic import op
revision, down_revision = "0001", None
def upgrade() -> None:
    op.execute("CREATE TABLE orders (number bigint)")
    op.execute("SELECT pg_advisory_xact_lock_shared({GATE})")
"""
CREATE_INDEX = """\
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY ix_orders_number ON orders (number)")
"""


async def _upgrade_together(
    folder: Path, database: Database, ready: Callable[[], bool]
) -> tuple[list[int], list[str]]:
    """The exit codes, sorted, and the outputs of 3 upgrades that all start before one ends."""
    gate = await asyncpg.connect(database.dsn)
    upgrades = []
    try:
        await gate.execute(f"SELECT pg_advisory_lock({GATE})")
        upgrades = [asyncio.create_task(upgrade(folder, database.url())) for _ in range(3)]
        async with asyncio.timeout(180):
            while not ready():
                await asyncio.sleep(0.02)
    finally:
        await gate.close()
        results = await asyncio.gather(*upgrades)
    return sorted(code for code, _ in results), [output for _, output in results]


def _all_connected(database: Database) -> Callable[[], bool]:
    return lambda: database.connections() == 1 + 3  # the gate and the upgrades


def _all_waiting(database: Database) -> Callable[[], bool]:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"

    def ready() -> bool:
        with psycopg.connect(database.dsn) as connection:
            return connection.execute(query, [database.name]).fetchone() == (3,)

    return ready


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, database: Database) -> Times:
    monkeypatch.setenv("DATABASE_URL", database.url())
    times = Times()
    monkeypatch.setattr(asyncio, "sleep", times.sleep)
    monkeypatch.setattr(asyncio, "timeout", times.timeout)
    return times


async def test_correct_leaves_neither_lock_nor_connection(
    correct: Block, database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS, CREATE_INDEX)
    module = correct.run(migrate=alembic_in_process(tmp_path))
    async with timeout(30):
        await module.main()
    assert await tables(database) == ["alembic_version", "orders"]
    assert await database.fetchval(LOCKS) == 0
    await database.left()
    assert (times.pauses, times.limits) == ([], [600])


async def test_correct_polls_each_second_outside_of_a_transaction(
    correct: Block, database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS)
    module = correct.run(migrate=alembic_in_process(tmp_path))
    holder = await asyncpg.connect(database.dsn)
    states: set[str] = set()

    async def look() -> None:
        query = "SELECT state FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
        states.update(row[0] for row in await holder.fetch(query, database.name))

    times.while_asleep, times.at_most = look, 1
    try:
        await holder.execute("SELECT pg_advisory_lock(7236001)")
        with pytest.raises(TimeoutError):
            async with timeout(60):
                await module.main()
    finally:
        await holder.close()
    assert (set(times.pauses), times.limits) == ({1}, [600])
    assert {"idle"} <= states <= {"idle", "active"}, "never idle in transaction"
    assert await tables(database) == []


async def test_correct_migrates_as_soon_as_the_lock_is_free(
    correct: Block, database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS)
    module = correct.run(migrate=alembic_in_process(tmp_path))
    holder = await asyncpg.connect(database.dsn)
    await holder.execute("SELECT pg_advisory_lock(7236001)")
    main = asyncio.create_task(module.main())
    async with timeout(30):
        while len(times.pauses) < 3:
            await sleep(0.001)
    await holder.close()
    async with timeout(30):
        await main
    assert await tables(database) == ["alembic_version", "orders"]


def _env(main: Block) -> Block:
    """The env.py of the rule on migrations, with this block's `main`."""
    env = RuleFile.load("sqlalchemy-migrations").block(correct=True)
    head, _, tail = env.code.partition("async def main()")
    start = tail.index("asyncio.run(main())")
    return replace(env, code=f"{head}{main.code}\n\n{tail[start:]}")


async def test_incorrect_exits_with_0_and_applies_nothing(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(incorrect), CREATE_ORDERS)
    codes, outputs = await _upgrade_together(tmp_path, database, _all_connected(database))
    assert codes == [0, 0, 0]
    assert all("Running upgrade  -> 0001" in output for output in outputs)
    assert await tables(database) == []
    witness.saw(*outputs)
    witness.observed(incorrect="3 upgrades together: 3 exit codes 0, 3 log it, 0 of 1 tables")


async def test_correct_applies_the_migration_once(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(correct), CREATE_ORDERS, CREATE_INDEX)
    codes, outputs = await _upgrade_together(tmp_path, database, _all_connected(database))
    assert codes == [0, 0, 0], outputs
    assert sum("Running upgrade  -> 0001" in output for output in outputs) == 1
    assert await tables(database) == ["alembic_version", "orders"]
    assert await database.fetchval("SELECT bool_and(indisvalid) FROM pg_index") is True
    assert await database.fetchval("SELECT to_regclass('ix_orders_number') IS NOT NULL")
    witness.observed(
        correct="3 upgrades together: 3 exit codes 0, 1 logs it, 1 table, 1 concurrent index"
    )


async def test_without_a_lock_2_of_3_fail(
    database: Database, witness: Witness, tmp_path: Path
) -> None:
    env = RuleFile.load("sqlalchemy-migrations").block(correct=True)
    write_project(tmp_path, env, CREATE_ORDERS)
    codes, outputs = await _upgrade_together(tmp_path, database, _all_waiting(database))
    assert codes == [0, 1, 1]
    witness.saw(*outputs)


async def test_waiting_in_the_lock_deadlocks_with_create_index_concurrently(
    database: Database, witness: Witness
) -> None:
    await database.execute("CREATE TABLE orders (number bigint)")
    holder, waiter = await asyncpg.connect(database.dsn), await asyncpg.connect(database.dsn)
    waiting = None
    try:
        await holder.execute("SELECT pg_advisory_lock(7)")
        waiting = asyncio.create_task(waiter.execute("SELECT pg_advisory_lock(7)"))
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with asyncio.timeout(30):
            while not await database.fetchval(query):
                await asyncio.sleep(0.01)
        await holder.execute("SET deadlock_timeout = '10ms'")  # it is the one that notices
        async with asyncio.timeout(30):
            with pytest.raises(asyncpg.DeadlockDetectedError) as raised:
                await holder.execute("CREATE INDEX CONCURRENTLY ix ON orders (number)")
        witness.saw(raised.value)
    finally:
        await holder.close()
        if waiting is not None:
            await asyncio.wait_for(waiting, 10)
        await waiter.close()


async def test_an_autocommit_block_releases_a_transactions_lock(database: Database) -> None:
    engine = create_engine(database.url("psycopg"))
    held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            with context.begin_transaction():
                connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
                assert connection.scalar(held) == 1
                with context.autocommit_block():
                    assert connection.scalar(held) == 0
    finally:
        engine.dispose()


def test_through_pgbouncer_2_clients_get_the_lock(database: Database, pgbouncer: PgBouncer) -> None:
    url = pgbouncer.url(database.name, None)
    query = "SELECT pg_try_advisory_lock(7)"
    with (
        psycopg.connect(url, autocommit=True, prepare_threshold=None) as first,
        psycopg.connect(url, autocommit=True, prepare_threshold=None) as second,
    ):
        assert [each.execute(query).fetchone() for each in (first, second)] == [(True,), (True,)]
