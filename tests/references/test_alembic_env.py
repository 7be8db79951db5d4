"""references/alembic-env.md: its env.py migrates once, gives up locks and holds the advisory lock."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import RuleFile
from tests.proofs.test_sqlalchemy_migrations import tables, upgrade, write_project
from tests.references.harness import LIMIT, PATHS, find
from tests.services import Database

CREATE_ORDERS = """\
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
RULES = ("sqlalchemy-migrations", "sqlalchemy-migration-lock", "sqlalchemy-ddl-locks")
WAITING = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"


def _project(folder: Path) -> None:
    index = find("alembic-env", "revision, down_revision")
    write_project(folder, find("alembic-env", "TRY_LOCK"), CREATE_ORDERS, index.code, ADD_COLUMN)


def test_each_line_of_the_three_rules_is_in_the_file() -> None:
    whole = [line.strip() for line in find("alembic-env", "TRY_LOCK").code.splitlines()]
    for rule in RULES:
        code = RuleFile.load(rule).block(correct=True).code
        lines = [line.strip() for line in code.splitlines() if not line.startswith("# given")]
        missing = [line for line in lines if line not in whole]
        # The imports of one module are one line, and the engine takes an option more.
        assert all(re.match("from sqlalchemy import |engine = create", each) for each in missing)


async def test_three_replicas_apply_every_revision_once(database: Database, tmp_path: Path) -> None:
    _project(tmp_path)
    async with asyncio.timeout(4 * LIMIT):
        ended = await asyncio.gather(*(upgrade(tmp_path, database.url()) for _ in range(3)))
    outputs = [output for _, output in ended]
    assert [code for code, _ in ended] == [0, 0, 0], outputs
    for step in (" -> 0001", "0001 -> 0002", "0002 -> 0003"):
        assert sum(f"Running upgrade {step}" in output for output in outputs) == 1
    assert await tables(database) == ["alembic_version", "orders"]
    assert await database.fetchval("SELECT bool_and(indisvalid) FROM pg_index") is True
    assert await database.fetchval(HELD) == 0


async def test_it_lets_reads_pass_and_holds_the_advisory_lock_in_its_pauses(
    database: Database, tmp_path: Path
) -> None:
    await database.execute("CREATE TABLE orders AS SELECT 'x' AS note")
    _project(tmp_path)
    idle = await asyncpg.connect(database.dsn)
    reader = await asyncpg.connect(database.dsn, server_settings={"statement_timeout": "10s"})
    migration = None
    try:
        async with asyncio.timeout(4 * LIMIT):
            transaction = idle.transaction()
            await transaction.start()
            await idle.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
            migration = asyncio.create_task(upgrade(tmp_path, database.url()))
            while True:
                if await database.fetchval(WAITING):
                    break
                await asyncio.sleep(0.01)
            assert await reader.fetchval("SELECT note FROM orders") == "x"
            # What waits has given up, or the read would wait: this is a pause.
            assert await database.fetchval(HELD) == 1
            await transaction.rollback()
            code, output = await migration
            assert code == 0, output
    finally:
        if migration:
            await asyncio.wait([migration])
        await idle.close()
        await reader.close()
    assert await database.fetchval("SELECT state FROM orders") == "new"
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
