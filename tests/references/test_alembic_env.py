"""references/alembic-env.md: its env.py migrates once, gives up locks and holds the advisory lock."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import Block, RuleFile
from tests.proofs.migrations import (
    CREATE_ORDERS,
    FAIL,
    Times,
    sleep,
    tables,
    timeout,
    upgrade,
    write_project,
)
from tests.references.harness import LIMIT, PATHS, find
from tests.services import Database

CREATE_NOTES = """\
from alembic import op
revision, down_revision = "0001", None
def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS orders (note text)")
"""
ADD_COLUMN = """\
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade() -> None:
    op.add_column("orders", sa.Column("state", sa.Text, nullable=False, server_default="new"))
"""
# Does what its test says.
CALL = """\
from alembic import op
revision, down_revision = "0001", None
def upgrade() -> None:
    op.get_context().config.attributes["call"](op.get_bind())
"""
CALL_AFTER_THE_INDEX = CALL.replace('"0001", None', '"0003", "0002"')
RULES = ("sqlalchemy-migrations", "sqlalchemy-migration-lock", "sqlalchemy-ddl-locks")
WAITING = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
)


def _env() -> Block:
    return find("alembic-env", "TRY_LOCK")


def _index() -> str:
    return find("alembic-env", "upgrade").code


@pytest.fixture
def times(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Times]:
    """What env.py waits for, where it is run in this process, in the folder of its project."""
    monkeypatch.setenv("DATABASE_URL", database.url())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.path_importer_cache.pop(".", None)  # it means the folder of an earlier test
    times = Times()
    monkeypatch.setattr(asyncio, "sleep", times.sleep)
    monkeypatch.setattr(asyncio, "timeout", times.timeout)
    yield times
    for name in ("app", "app.models"):
        sys.modules.pop(name, None)


async def _upgrade_here(**attributes: Any) -> None:
    """`alembic upgrade head` as a service runs it at its start, in a thread."""
    config = Config("alembic.ini", attributes=attributes)
    await asyncio.to_thread(command.upgrade, config, "head")


@asynccontextmanager
async def _connection(database: Database, **settings: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.dsn, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def _until(query: str, database: Database, upgrading: asyncio.Task[None]) -> None:
    """Wait until a query finds something."""
    async with timeout(LIMIT):
        while not await database.fetchval(query):
            assert not upgrading.done(), upgrading.exception()
            await sleep(0.01)


async def test_it_leaves_the_tables_and_neither_lock_nor_connection(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CREATE_ORDERS)
    await _upgrade_here()
    await database.left()
    assert await tables(database) == ["alembic_version", "orders"]
    assert (times.pauses, times.limits) == ([], [600])
    await asyncio.to_thread(command.check, Config("alembic.ini"))  # raises where models differ


async def test_a_lock_that_it_does_not_get_is_tried_ten_times_with_growing_pauses(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CALL)
    tries = []

    def call(connection: Connection) -> None:
        tries.append(connection.exec_driver_sql("SHOW lock_timeout").scalar())
        connection.exec_driver_sql("DO $$ BEGIN RAISE lock_not_available; END $$")

    async def held() -> None:
        assert await database.fetchval(HELD) == 1

    times.while_asleep = held
    with pytest.raises(DBAPIError, match="lock_not_available"):
        await _upgrade_here(call=call)
    assert tries == ["500ms"] * 10
    assert times.pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert sum(times.pauses) == 511


@pytest.mark.parametrize("error", [DBAPIError("", None, KeyError()), KeyError(), SystemExit()])
async def test_another_error_ends_it_at_once(
    error: BaseException, database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CALL)

    def call(_: Connection) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await _upgrade_here(call=call)
    assert (raised.value, times.pauses) == (error, [])


async def test_a_failure_keeps_the_revisions_before_it(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CREATE_ORDERS, FAIL)
    with pytest.raises(DBAPIError, match="division by zero"):
        await _upgrade_here()
    assert (await tables(database), times.pauses) == (["alembic_version", "orders"], [])


async def test_it_polls_each_second_outside_of_a_transaction_for_600_seconds(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CREATE_ORDERS)

    async def idle() -> None:
        assert await database.fetchval(IN_TRANSACTION) == 0

    times.while_asleep, times.at_most = idle, 1
    async with _connection(database) as holder:
        await holder.execute("SELECT pg_advisory_lock(7236001)")
        with pytest.raises(TimeoutError):
            await _upgrade_here()
    assert ({*times.pauses}, times.limits) == ({1}, [600])
    assert await tables(database) == []


async def test_it_migrates_as_soon_as_the_advisory_lock_is_free(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CREATE_ORDERS)
    async with _connection(database) as holder:
        await holder.execute("SELECT pg_advisory_lock(7236001)")
        upgrading = asyncio.create_task(_upgrade_here())
        async with timeout(LIMIT):
            while len(times.pauses) < 3 and not upgrading.done():
                await sleep(0.001)
    await upgrading
    assert await tables(database) == ["alembic_version", "orders"]


async def test_the_index_waits_for_a_writer_and_the_next_revision_has_the_limit_again(
    database: Database, times: Times, tmp_path: Path
) -> None:
    write_project(tmp_path, _env(), CREATE_NOTES, _index(), CALL_AFTER_THE_INDEX)
    await database.execute("CREATE TABLE orders (note text)")
    limits = []

    def call(connection: Connection) -> None:
        limits.append(connection.exec_driver_sql("SHOW lock_timeout").scalar())

    async with _connection(database) as writer:
        await writer.execute("BEGIN; INSERT INTO orders VALUES ('x')")
        upgrading = asyncio.create_task(_upgrade_here(call=call))
        await _until("SELECT count(*) FROM pg_locks WHERE NOT granted", database, upgrading)
        await sleep(0.7)
        await writer.execute("COMMIT")
    await upgrading
    assert (limits, times.pauses) == (["500ms"], [])
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_orders_note'::regclass"
    assert await database.fetchval(valid) is True


async def test_it_lets_reads_pass_while_it_waits_for_an_idle_transaction(
    database: Database, times: Times, tmp_path: Path
) -> None:
    await database.execute("CREATE TABLE orders AS SELECT 'x' AS note")
    write_project(tmp_path, _env(), CREATE_NOTES, _index(), ADD_COLUMN)
    async with (
        _connection(database) as idle,
        _connection(database, statement_timeout="10s") as reader,
    ):
        await idle.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")
        upgrading = asyncio.create_task(_upgrade_here())
        await _until(WAITING, database, upgrading)
        assert await reader.fetchval("SELECT note FROM orders") == "x"
        await idle.execute("COMMIT")
        await upgrading
    assert times.pauses
    assert await database.fetchval("SELECT state FROM orders") == "new"


@pytest.mark.parametrize(
    ("file", "handlers", "configured"),
    [
        pytest.param("alembic.ini", [], True, id="alembic alone"),
        pytest.param("alembic.ini", [logging.NullHandler()], False, id="a service's own"),
        pytest.param(None, [], False, id="no file"),
    ],
)
async def test_it_configures_logging_where_nobody_has(
    file: str | None,
    handlers: list[logging.Handler],
    configured: bool,
    times: Times,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What that does to other loggers, the proof of `sqlalchemy-migrations` shows."""
    write_project(tmp_path, _env(), CREATE_ORDERS)
    seen: list[Any] = []
    monkeypatch.setattr(logging.config, "fileConfig", lambda *a, **b: seen.append((*a, b)))
    monkeypatch.setattr(logging.root, "handlers", handlers)
    monkeypatch.syspath_prepend(tmp_path)
    config = Config(file)
    config.set_main_option("script_location", "migrations")
    await asyncio.to_thread(command.upgrade, config, "head")
    said = ((tmp_path / "alembic.ini").name, {"disable_existing_loggers": False})
    assert [(Path(each[0]).name, *each[1:]) for each in seen] == [said] * configured


def test_each_line_of_the_three_rules_is_in_the_file() -> None:
    env = _env()
    for rule in RULES:
        code = RuleFile.load(rule).block(correct=True).code
        lines = {line.strip() for line in code.splitlines() if not line.startswith("# given")}
        # The imports of one module are one line, and the engine takes an option more.
        other = {each for each in lines if re.match("from sqlalchemy import |engine = ", each)}
        assert lines - other <= {line.strip() for line in env.code.splitlines()}
        assert len(other) <= 2


async def test_three_replicas_apply_every_revision_once(database: Database, tmp_path: Path) -> None:
    write_project(tmp_path, _env(), CREATE_NOTES, _index(), ADD_COLUMN)
    async with asyncio.timeout(4 * LIMIT):
        ended = await asyncio.gather(*(upgrade(tmp_path, database.url()) for _ in range(3)))
    outputs = [output for _, output in ended]
    assert [code for code, _ in ended] == [0, 0, 0], outputs
    for step in (" -> 0001", "0001 -> 0002", "0002 -> 0003"):
        assert sum(f"Running upgrade {step}" in output for output in outputs) == 1
    assert await tables(database) == ["alembic_version", "orders"]
    assert await database.fetchval("SELECT bool_and(indisvalid) FROM pg_index") is True
    assert await database.fetchval(HELD) == 0


@pytest.mark.parametrize("together", [True, False])
def test_set_not_null_scans_where_the_check_goes_in_the_same_statement(
    together: bool, database: Database
) -> None:
    said: list[str] = []
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        connection.execute("CREATE TABLE orders AS SELECT 'x' AS note")
        check = "CHECK (note IS NOT NULL) NOT VALID"
        connection.execute(f"ALTER TABLE orders ADD CONSTRAINT filled {check}".encode())
        connection.execute("ALTER TABLE orders VALIDATE CONSTRAINT filled")
        connection.execute("SET client_min_messages = debug1")
        drop = ", DROP CONSTRAINT filled" if together else ""
        connection.execute(f"ALTER TABLE orders ALTER note SET NOT NULL {drop}".encode())
    assert ('verifying table "orders"' in said) is together


async def test_psycopg_takes_the_setting_as_an_option(database: Database) -> None:
    text = PATHS["alembic-env"].read_text("utf-8")
    assert '`connect_args={"options": "-c lock_timeout=500ms"}`' in text
    engine = create_async_engine(
        database.url("psycopg"), connect_args={"options": "-c lock_timeout=500ms"}
    )
    async with engine.connect() as connection:
        shown = (await connection.exec_driver_sql("SHOW lock_timeout")).scalar()
    await engine.dispose()
    assert shown == "500ms"
