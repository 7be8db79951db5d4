"""A migration that waits for a lock stops the reads behind it, unless it gives up and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.migrations import Times, alembic_in_process, sleep
from tests.services import Database

CORRECT = RuleFile.load("sqlalchemy-ddl-locks").block(correct=True)
REVISION = """\
import sqlalchemy as sa
from alembic import op
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
op.get_context().config.attributes["read"]()
"""


Main = Callable[[], Coroutine[Any, Any, None]]


def _project(
    folder: Path, block: Block, *upgrades: str, each: bool = True, **attributes: Any
) -> Main:
    """The block's `main`, which brings these revisions to the head, each in its transaction."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").touch()
    for number, upgrade in enumerate(upgrades, 1):
        before = f'"{number - 1}"' if number > 1 else None
        text = REVISION.format(number=number, before=before, upgrade=indent(upgrade, "    "))
        (versions / f"{number}.py").write_text(text)
    main: Main = block.run(migrate=alembic_in_process(folder, each=each, **attributes)).main
    return main


@pytest.fixture(autouse=True)
def pauses(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are taken, at a thousandth of their length."""
    monkeypatch.setenv("DATABASE_URL", database.url())
    times = Times()
    monkeypatch.setattr(asyncio, "sleep", times.sleep)
    return times.pauses


@asynccontextmanager
async def _connection(database: Database, **settings: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.dsn, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def _read_behind_a_migration(main: Main, database: Database) -> int:
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
        upgrade = asyncio.create_task(main())
        try:
            async with asyncio.timeout(20):
                while not await database.fetchval(waiting):
                    await sleep(0.01)
                return int(await reader.fetchval("SELECT number FROM orders"))
        finally:
            await transaction.rollback()
            await asyncio.wait_for(upgrade, 30)
            assert await database.fetchval("SELECT count(note) FROM orders") == 0


class Refused(Exception):
    sqlstate = "55P03"


async def test_correct_tries_ten_times_with_growing_pauses(
    correct: Block, pauses: list[float]
) -> None:
    tries: list[Any] = []

    def migrate(connection: Connection) -> None:
        tries.append(connection.scalar(text("SHOW lock_timeout")))
        raise DBAPIError("ALTER TABLE", None, Refused())

    with pytest.raises(DBAPIError):
        await correct.run(migrate=migrate).main()
    assert tries == ["500ms"] * 10
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256]


@pytest.mark.parametrize("error", [DBAPIError("", None, KeyError()), KeyError()])
async def test_correct_retries_nothing_else(
    correct: Block, error: Exception, pauses: list[float]
) -> None:
    def migrate(connection: Connection) -> None:
        assert connection.scalar(text("SHOW lock_timeout")) == "500ms"
        raise error

    with pytest.raises(type(error)) as raised:
        await correct.run(migrate=migrate).main()
    assert raised.value is error
    assert pauses == []


async def test_correct_migrates_once_and_keeps_no_connection(
    correct: Block, database: Database, pauses: list[float]
) -> None:
    tries: list[Any] = []

    def migrate(connection: Connection) -> None:
        tries.append(connection.scalar(text("SHOW lock_timeout")))

    await correct.run(migrate=migrate).main()
    await database.left()
    assert (tries, pauses) == (["500ms"], [])


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
    main = _project(tmp_path, correct, ADD_COLUMN)
    assert await _read_behind_a_migration(main, database) == 7
    witness.observed(correct="a read behind the ALTER TABLE: 1 row; a retry added the column")


async def test_correct_retries_only_the_revision_that_gave_up(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    main = _project(tmp_path, correct, CREATE_INDEX, ADD_COLUMN)
    assert await _read_behind_a_migration(main, database) == 7
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
    main = _project(tmp_path, CORRECT, *upgrades, each=each)
    with pytest.raises(ProgrammingError, match='relation "ix" already exists'):
        await _read_behind_a_migration(main, database)


async def test_without_a_reset_the_next_revision_stops_reads(
    database: Database, tmp_path: Path
) -> None:
    without = CREATE_INDEX.replace("RESET lock_timeout", "SELECT 1")
    main = _project(tmp_path, CORRECT, without, ADD_COLUMN)
    with pytest.raises(asyncpg.QueryCanceledError):
        await _read_behind_a_migration(main, database)


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
    found: list[int] = []

    def read() -> None:
        with (
            psycopg.connect(database.dsn, options="-c lock_timeout=50ms") as connection,
            suppress(psycopg.errors.LockNotAvailable),
        ):
            found.extend(row[0] for row in connection.execute("SELECT number FROM orders"))

    main = _project(tmp_path, CORRECT, ADD_CHECK, VALIDATE, each=each, read=read)
    await asyncio.wait_for(main(), 30)
    assert found == rows


TWO = 'op.execute("ALTER TABLE carts ADD COLUMN note text")'


@pytest.mark.parametrize(
    ("upgrades", "rows"),
    [
        pytest.param([ADD_COLUMN + "\n" + TWO], [], id="one revision"),
        pytest.param([ADD_COLUMN, TWO], [7], id="a revision for each"),
    ],
)
async def test_a_second_statement_waits_while_the_first_table_stays_locked(
    upgrades: list[str], rows: list[int], database: Database, tmp_path: Path
) -> None:
    await database.execute("CREATE TABLE orders AS SELECT 7 AS number; CREATE TABLE carts ()")
    main = _project(tmp_path, CORRECT, *upgrades)
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'carts'::regclass AND NOT granted"
    found: list[int] = []
    async with _connection(database) as idle, _connection(database, lock_timeout="50ms") as reader:
        await idle.execute("BEGIN; SELECT FROM carts")
        upgrade = asyncio.create_task(main())
        async with asyncio.timeout(30):
            while not await database.fetchval(waiting):
                await sleep(0.01)
            with suppress(asyncpg.LockNotAvailableError):
                found.append(await reader.fetchval("SELECT number FROM orders"))
            await idle.execute("COMMIT")
            await upgrade
    assert found == rows


async def test_the_timeout_is_for_each_lock(database: Database) -> None:
    await database.execute("CREATE TABLE a (); CREATE TABLE b (); CREATE TABLE c ()")
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = $1::regclass AND NOT granted"
    async with (
        _connection(database, lock_timeout="4s") as ddl,
        _connection(database, lock_timeout="10ms") as reader,
        _connection(database) as first,
        _connection(database) as second,
    ):
        await first.execute("BEGIN; SELECT FROM b")
        await second.execute("BEGIN; SELECT FROM c")
        alter = "; ".join(f"ALTER TABLE {name} ADD x int" for name in "abc")
        altering = asyncio.create_task(ddl.execute(alter))
        async with asyncio.timeout(30):
            for name, holder in (("b", first), ("c", second)):
                while not await database.fetchval(waiting, name):
                    await sleep(0.01)
                await sleep(2.1)  # of 4 s: together they are longer
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await reader.fetch("SELECT FROM a")
                await holder.execute("COMMIT")
            await altering


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


async def test_postgresql_18_adds_not_null_without_a_scan(ddl: Ddl, database: Database) -> None:
    if int(await database.fetchval("SHOW server_version_num")) < 180_000:
        pytest.skip("from PostgreSQL 18 on")
    assert "verifying" not in ddl(
        "ALTER TABLE orders ADD CONSTRAINT filled NOT NULL note NOT VALID"
    )
    ddl("BEGIN")
    assert 'verifying table "orders"' in ddl("ALTER TABLE orders VALIDATE CONSTRAINT filled")
    async with _connection(database, lock_timeout="2s") as other:
        await other.execute("INSERT INTO orders VALUES (8, 'y')")
        assert await other.fetchval("SELECT count(*) FROM orders") == 2
        with pytest.raises(asyncpg.NotNullViolationError):
            await other.execute("INSERT INTO orders VALUES (9, NULL)")
    ddl("COMMIT")
    column = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'orders'::regclass"
    assert await database.fetchval(f"{column} AND attname = 'note'") is True


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
                await sleep(0.01)
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
