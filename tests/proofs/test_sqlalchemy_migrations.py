"""`alembic upgrade head` reaches PostgreSQL over asyncpg only through an async engine."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    create_engine,
)
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import Block, Witness
from tests.proofs.migrations import CREATE_ORDERS, FAIL, python, tables, upgrade, write_project
from tests.services import Database

# What a service does that migrates at its start.
LOG_AND_UPGRADE = """\
import asyncio, logging
from alembic import command
from alembic.config import Config
logging.basicConfig(level=logging.INFO, format="service: %(message)s")
asyncio.run(asyncio.to_thread(command.upgrade, Config("alembic.ini"), "head"))
logging.info("info after it")
logging.warning("warning after it")
"""
UPGRADE_IN_A_LOOP = """\
import asyncio, logging, os
import psycopg
from logging.config import fileConfig
from alembic import command
from alembic.config import Config
logger = logging.getLogger("service")
async def main() -> None:
    try:
        command.upgrade(Config("alembic.ini"), "head")
    except RuntimeError as error:
        print(f"RuntimeError: {error}")
    await asyncio.to_thread(command.upgrade, Config("alembic.ini"), "head")
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        print(f"connections: {connection.execute(query).fetchone()[0] - 1}")
    print(f"disabled: {logger.disabled}")
    fileConfig("alembic.ini")
    print(f"disabled by default: {logger.disabled}")
asyncio.run(main())
"""
UPGRADE_WITHOUT_A_FILE = """\
from alembic import command
from alembic.config import Config
config = Config()
config.set_main_option("script_location", "migrations")
command.upgrade(config, "head")
"""


async def test_incorrect_cannot_connect_over_asyncpg(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    write_project(tmp_path, incorrect, CREATE_ORDERS)
    code, output = await upgrade(tmp_path, database.url())
    assert code == 1
    assert "MissingGreenlet" in output
    assert await tables(database) == []
    witness.saw(output)
    witness.observed(incorrect="alembic upgrade head: exit code 1, MissingGreenlet, 0 of 1 tables")

    code, _ = await upgrade(tmp_path, database.url("psycopg"))
    assert (code, await tables(database)) == (0, ["alembic_version", "orders"])


async def test_correct_migrates_over_asyncpg_with_a_percent_sign_in_the_password(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS)
    code, output = await upgrade(tmp_path, database.url().replace("postgres@", "postgres:p%40ss@"))
    assert code == 0, output
    assert "Running upgrade  -> 0001" in output
    assert await tables(database) == ["alembic_version", "orders"]
    code, output = await python(tmp_path, database.url(), "-m", "alembic", "check")
    assert (code, "No new upgrade operations detected" in output) == (0, True), output
    witness.observed(correct="alembic upgrade head: exit code 0, 1 table")


async def test_correct_needs_no_alembic_ini(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS)
    code, output = await python(tmp_path, database.url(), "-c", UPGRADE_WITHOUT_A_FILE)
    assert code == 0, output
    assert await tables(database) == ["alembic_version", "orders"]


def test_an_address_without_a_driver_means_psycopg_from_2_1_on(witness: Witness) -> None:
    if sqlalchemy.__version__.startswith("2.0."):
        with pytest.raises(ModuleNotFoundError, match="psycopg2") as raised:
            create_async_engine("postgresql://db/shop")
    else:
        assert create_async_engine("postgresql://db/shop").driver == "psycopg"
        with pytest.raises(ModuleNotFoundError, match="psycopg2") as raised:
            create_async_engine("postgresql+psycopg2://db/shop")
    witness.saw(raised.value)


def test_set_main_option_refuses_a_percent_sign(witness: Witness) -> None:
    with pytest.raises(ValueError, match="invalid interpolation syntax") as raised:
        Config().set_main_option("sqlalchemy.url", "postgresql+asyncpg://postgres:p%40ss@db/shop")
    witness.saw(raised.value)


async def test_a_running_loop_takes_it_in_a_thread_and_keeps_its_loggers(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    write_project(tmp_path, correct, CREATE_ORDERS)
    code, output = await python(tmp_path, database.url(), "-c", UPGRADE_IN_A_LOOP)
    witness.saw(output)
    assert code == 0, output
    assert "asyncio.run() cannot be called from a running event loop" in output
    assert "connections: 0\n" in output
    assert "disabled: False\ndisabled by default: True" in output
    assert await tables(database) == ["alembic_version", "orders"]


@pytest.mark.parametrize(
    ("condition", "lines"),
    [
        (" and not logging.root.handlers", ["service: info", "service: warning"]),
        ("", ["WARNI [root] warning"]),
    ],
)
async def test_file_config_takes_the_place_of_a_services_logging(
    correct: Block, condition: str, lines: list[str], database: Database, tmp_path: Path
) -> None:
    code = correct.code.replace(" and not logging.root.handlers", condition)
    write_project(tmp_path, replace(correct, code=code), CREATE_ORDERS)
    _, output = await python(tmp_path, database.url(), "-c", LOG_AND_UPGRADE)
    suffix = " after it"
    said = [each.removesuffix(suffix) for each in output.splitlines() if each.endswith(suffix)]
    assert said == lines, output


OPTION = ", transaction_per_migration=True"


@pytest.mark.parametrize(
    ("option", "migrations", "applied"),
    [
        (OPTION, [CREATE_ORDERS, FAIL], ["alembic_version", "orders"]),
        ("", [CREATE_ORDERS, FAIL], []),
        ("", [CREATE_ORDERS], ["alembic_version", "orders"]),
    ],
)
async def test_only_the_option_commits_what_came_before_a_failure(
    correct: Block,
    option: str,
    migrations: list[str],
    applied: list[str],
    database: Database,
    tmp_path: Path,
) -> None:
    code = correct.code.replace(OPTION, option)
    write_project(tmp_path, replace(correct, code=code), *migrations)
    exit_code, output = await upgrade(tmp_path, database.url())
    assert (exit_code, await tables(database)) == (len(migrations) - 1, applied), output
    assert ("division by zero" in output) == (FAIL in migrations)


def _rendered(operations: Any) -> str:
    """What autogenerate writes into a migration, without its indent."""
    lines: str = render_python_code(operations)
    return "\n".join(line.strip() for line in lines.splitlines())


@pytest.mark.parametrize("convention", [None, {"uq": "uq_%(table_name)s_%(column_0_name)s"}])
async def test_a_constraint_without_a_name_cannot_be_dropped(
    convention: dict[str, str] | None, database: Database, witness: Witness
) -> None:
    await database.execute("CREATE TABLE orders (number int)")
    metadata: Any = MetaData(naming_convention=convention)
    Table("orders", metadata, Column("number", Integer), UniqueConstraint("number"))
    engine = create_engine(database.url("psycopg"))
    try:
        with engine.begin() as connection, warnings.catch_warnings(action="ignore"):
            context = MigrationContext.configure(connection, opts={"target_metadata": metadata})
            script = produce_migrations(context, metadata)
            names = {"op": Operations(context)}
            exec(_rendered(script.upgrade_ops), names)
            downgrade = _rendered(script.downgrade_ops)
            if convention:
                exec(downgrade, names)
                return
            assert "op.drop_constraint(None, " in downgrade
            with pytest.raises(CompileError, match="it has no name") as raised:
                exec(downgrade, names)
            witness.saw(raised.value)
    finally:
        engine.dispose()
