"""A migration that waits for a lock stops the reads behind it, unless it gives up and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import asyncpg
import psycopg
import pytest
from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Database

CORRECT = RuleFile.load("sqlalchemy-ddl-locks").block(correct=True)
# An env.py that runs what the proof gives it.
ENV = """\
from alembic import context
context.config.attributes["main"]()
"""
REVISION = """\
import sqlalchemy as sa
from alembic import context, op
revision, down_revision = "{number}", {before}
def upgrade() -> None:
{upgrade}
"""
ADD_COLUMN = 'op.add_column("orders", sa.Column("note", sa.Text))'
CREATE_INDEX = """\
with op.get_context().autocommit_block():
    op.execute("SET lock_timeout = 0")
    op.execute("CREATE INDEX CONCURRENTLY ix ON orders (number)")
    op.execute("RESET lock_timeout")
"""
ADD_CHECK = 'op.execute("ALTER TABLE orders ADD CONSTRAINT own CHECK (number > 0) NOT VALID")'
VALIDATE = """\
op.execute("ALTER TABLE orders VALIDATE CONSTRAINT own")
context.config.attributes["read"]()
"""


def _project(folder: Path, block: Block, *upgrades: str, each: bool = True) -> Config:
    """An Alembic project whose env.py runs the block's `main`, and commits each revision."""

    def migrate(connection: Connection) -> None:
        context.configure(connection=connection, transaction_per_migration=each)
        with context.begin_transaction():
            context.run_migrations()

    module = block.run(migrate=migrate)
    (folder / "versions").mkdir()
    (folder / "env.py").write_text(ENV)
    for number, upgrade in enumerate(upgrades, 1):
        before = f'"{number - 1}"' if number > 1 else None
        text = REVISION.format(number=number, before=before, upgrade=indent(upgrade, "    "))
        (folder / "versions" / f"{number}.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["main"] = lambda: asyncio.run(module.main())
    return config


@pytest.fixture(autouse=True)
def _address(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url())


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
) -> None:
    with pytest.raises(asyncpg.QueryCanceledError) as raised:
        await _read_behind_a_migration(_project(tmp_path, incorrect, ADD_COLUMN), database)
    witness.saw(raised.value)
    witness.observed(incorrect="a read behind the ALTER TABLE: cancelled at 2 s, 0 rows")


async def test_correct_lets_reads_through_and_is_applied_later(
    correct: Block,
    database: Database,
    witness: Witness,
    tmp_path: Path,
) -> None:
    config = _project(tmp_path, correct, ADD_COLUMN)
    assert await _read_behind_a_migration(config, database) == 7
    witness.observed(correct="a read behind the ALTER TABLE: 1 row; a retry added the column")


async def test_correct_retries_only_the_revision_that_gave_up(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    config = _project(tmp_path, correct, CREATE_INDEX, ADD_COLUMN)
    assert await _read_behind_a_migration(config, database) == 7
    assert await database.fetchval("SELECT version_num FROM alembic_version") == "2"
    assert await database.fetchval("SELECT to_regclass('ix') IS NOT NULL")


@pytest.mark.parametrize(
    ("upgrades", "each"),
    [
        pytest.param([CREATE_INDEX, ADD_COLUMN], False, id="one transaction"),
        pytest.param([CREATE_INDEX + ADD_COLUMN], True, id="one revision"),
    ],
)
async def test_an_index_whose_revision_was_rolled_back_stops_the_retry(
    upgrades: list[str],
    each: bool,
    database: Database,
    tmp_path: Path,
) -> None:
    config = _project(tmp_path, CORRECT, *upgrades, each=each)
    with pytest.raises(ProgrammingError, match='relation "ix" already exists'):
        await _read_behind_a_migration(config, database)


async def test_without_a_reset_the_next_revision_stops_reads(
    database: Database, tmp_path: Path
) -> None:
    without = CREATE_INDEX.replace("RESET lock_timeout", "SELECT 1")
    config = _project(tmp_path, CORRECT, without, ADD_COLUMN)
    with pytest.raises(asyncpg.QueryCanceledError):
        await _read_behind_a_migration(config, database)


async def test_without_a_retry_the_migration_fails(database: Database, witness: Witness) -> None:
    await database.execute("CREATE TABLE orders (number bigint)")
    async with _connection(database) as idle, _connection(database, lock_timeout="50ms") as ddl:
        await idle.execute("BEGIN; SELECT number FROM orders")
        with pytest.raises(asyncpg.LockNotAvailableError) as raised:
            await ddl.execute("ALTER TABLE orders ADD COLUMN note text")
        assert raised.value.sqlstate == "55P03"
        witness.saw(raised.value)


@pytest.mark.parametrize(("each", "rows"), [(False, []), (True, [7])])
async def test_one_transaction_for_all_revisions_blocks_reads_beside_validate(
    each: bool,
    rows: list[int],
    database: Database,
    tmp_path: Path,
) -> None:
    await database.execute("CREATE TABLE orders AS SELECT 7 AS number")
    config = _project(tmp_path, CORRECT, ADD_CHECK, VALIDATE, each=each)
    found: list[int] = []

    def read() -> None:
        with (
            psycopg.connect(database.dsn, options="-c lock_timeout=50ms") as connection,
            suppress(psycopg.errors.LockNotAvailable),
        ):
            found.extend(row[0] for row in connection.execute("SELECT number FROM orders"))

    config.attributes["read"] = read
    await asyncio.wait_for(asyncio.to_thread(command.upgrade, config, "head"), 30)
    assert found == rows


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
