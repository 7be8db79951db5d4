"""A migration that waits for a lock stops the reads behind it, unless it gives up and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection

from tests.proofs.harness import Block, Witness
from tests.services import Database

# An env.py that runs what the proof gives it.
ENV = """\
from alembic import context
context.config.attributes["main"]()
"""
ADD_COLUMN = """\
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade() -> None:
    op.add_column("orders", sa.Column("note", sa.Text))
"""


def _migrate(connection: Connection) -> None:
    """The function of env.py."""
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


def _project(folder: Path, block: Block) -> Config:
    """An Alembic project whose env.py runs the block's `main`."""
    module = block.run(migrate=_migrate)
    (folder / "versions").mkdir()
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "0001.py").write_text(ADD_COLUMN)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["main"] = lambda: asyncio.run(module.main())
    return config


@asynccontextmanager
async def _connection(database: Database, **settings: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.dsn, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def _read_behind_a_migration(config: Config, database: Database) -> int:
    """Read while a migration waits for an idle transaction; in the end it is applied."""
    await database.execute("CREATE TABLE orders AS SELECT 7 AS number")
    waiting = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
    async with (
        _connection(database) as idle,
        _connection(database, statement_timeout="2s") as reader,
    ):
        transaction = idle.transaction()
        await transaction.start()
        await idle.execute("SELECT number FROM orders")
        upgrade = asyncio.create_task(asyncio.to_thread(command.upgrade, config, "head"))
        try:
            async with asyncio.timeout(20):
                while not await database.fetchval(waiting):
                    await asyncio.sleep(0.01)
                return int(await reader.fetchval("SELECT number FROM orders"))
        finally:
            await transaction.rollback()
            await asyncio.wait_for(upgrade, 30)
            assert await database.fetchval("SELECT count(note) FROM orders") == 0


async def test_incorrect_stops_reads_of_its_table(
    incorrect: Block,
    database: Database,
    witness: Witness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url())
    with pytest.raises(asyncpg.QueryCanceledError) as raised:
        await _read_behind_a_migration(_project(tmp_path, incorrect), database)
    witness.saw(raised.value)
    witness.observed(incorrect="a read behind the ALTER TABLE: cancelled at 2 s, 0 rows")


async def test_correct_lets_reads_through_and_is_applied_later(
    correct: Block,
    database: Database,
    witness: Witness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url())
    assert await _read_behind_a_migration(_project(tmp_path, correct), database) == 7
    witness.observed(correct="a read behind the ALTER TABLE: 1 row; a retry added the column")


async def test_without_a_retry_the_migration_fails(database: Database, witness: Witness) -> None:
    await database.execute("CREATE TABLE orders (number bigint)")
    async with _connection(database) as idle, _connection(database, lock_timeout="50ms") as ddl:
        await idle.execute("BEGIN; SELECT number FROM orders")
        with pytest.raises(asyncpg.LockNotAvailableError) as raised:
            await ddl.execute("ALTER TABLE orders ADD COLUMN note text")
        assert raised.value.sqlstate == "55P03"
        witness.saw(raised.value)


@pytest.fixture
def ddl(database: Database) -> Any:
    """Runs statements; gives what PostgreSQL says of them at its most talkative."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        said: list[str] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        connection.execute("CREATE TABLE orders AS SELECT 7 AS number, 'x' AS note")
        connection.execute("SET client_min_messages = debug1")

        def execute(statement: str) -> str:
            said.clear()
            connection.execute(statement.encode())
            return "\n".join(said)

        yield execute


Ddl = Callable[[str], str]


async def test_set_not_null_scans_the_table_and_blocks_reads(ddl: Ddl, database: Database) -> None:
    ddl("BEGIN")
    assert 'verifying table "orders"' in ddl("ALTER TABLE orders ALTER note SET NOT NULL")
    async with _connection(database, lock_timeout="50ms") as other:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.fetchval("SELECT count(*) FROM orders")


async def test_set_not_null_after_a_validated_check_does_not_scan(
    ddl: Ddl, database: Database
) -> None:
    added = ddl("ALTER TABLE orders ADD CONSTRAINT filled CHECK (note IS NOT NULL) NOT VALID")
    assert "verifying" not in added
    ddl("BEGIN")
    assert 'verifying table "orders"' in ddl("ALTER TABLE orders VALIDATE CONSTRAINT filled")
    async with _connection(database, lock_timeout="2s") as other:
        await other.execute("INSERT INTO orders VALUES (8, 'y')")
        assert await other.fetchval("SELECT count(*) FROM orders") == 2
    ddl("COMMIT")
    said = ddl("ALTER TABLE orders ALTER note SET NOT NULL")
    assert "verifying" not in said
    assert "are sufficient to prove that it does not contain nulls" in said


async def test_create_index_blocks_writes(ddl: Ddl, database: Database) -> None:
    ddl("BEGIN")
    ddl("CREATE INDEX ix ON orders (number)")
    async with _connection(database, lock_timeout="50ms") as other:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("INSERT INTO orders VALUES (8, 'y')")


async def test_create_index_concurrently_waits_without_blocking(database: Database) -> None:
    await database.execute("CREATE TABLE orders (number bigint)")
    create = "CREATE INDEX CONCURRENTLY ix ON orders (number)"
    async with (
        _connection(database) as idle,
        _connection(database, lock_timeout="50ms") as ddl,
        _connection(database, lock_timeout="2s") as other,
    ):
        await idle.execute("BEGIN; INSERT INTO orders VALUES (7)")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await ddl.execute(create)
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass"
        assert await database.fetchval(valid) is False
        with pytest.raises(asyncpg.DuplicateTableError):
            await ddl.execute(create)

        await idle.execute("COMMIT")
        await ddl.execute("DROP INDEX ix; SET lock_timeout = 0")
        await idle.execute("BEGIN; INSERT INTO orders VALUES (7)")
        creating = asyncio.create_task(ddl.execute(create))
        async with asyncio.timeout(20):
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            await other.execute("INSERT INTO orders VALUES (8)")
            assert await other.fetchval("SELECT count(*) FROM orders") == 2
            assert not creating.done()
            await idle.execute("COMMIT")
            await creating
        assert await database.fetchval(valid) is True


async def test_only_a_volatile_default_rewrites_the_table(ddl: Ddl, database: Database) -> None:
    file = "SELECT pg_relation_filenode('orders')"
    before = await database.fetchval(file)
    ddl("ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new'")
    assert await database.fetchval(file) == before
    ddl("ALTER TABLE orders ADD COLUMN key uuid DEFAULT gen_random_uuid()")
    assert await database.fetchval(file) != before
