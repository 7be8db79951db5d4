"""It starts with sound settings alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.services import (
    Postgres,
    ServiceFailed,
)
from tests.template.harness import (
    ALLOWED,
    TEMPLATE,
    connected,
    create,
    metrics,
    ready,
    running,
    until,
)


def release(package: str) -> tuple[int, int]:
    major, minor = version(package).split(".")[:2]
    return int(major), int(minor)


def asked(package: str) -> tuple[int, int]:
    """Give the oldest release that the template's first lines ask for."""
    found = re.search(rf'"{package}>=(\d+)\.(\d+)"', TEMPLATE.read_text("utf-8"))
    assert found
    return int(found[1]), int(found[2])


def told(failed: pytest.ExceptionInfo[ServiceFailed]) -> str:
    """Give the end of its log, with the lines that are one in JSON."""
    return str(failed.value).replace("\\n", "\n")


def test_the_start_fails_and_names_the_address_that_is_missing(folder: Path) -> None:
    with pytest.raises(ServiceFailed) as failed, running(folder):
        pass
    assert "1 validation error for Settings\ndatabase_url\n  Field required" in told(failed)


def test_the_start_fails_and_names_all_faults_without_the_password(folder: Path) -> None:
    with (
        pytest.raises(ServiceFailed) as failed,
        running(
            folder,
            database_url="postgresql://postgres:hunter2@db/shop",  # asks for another driver
            cors_origins=json.dumps(["*", f"{ALLOWED}/", ALLOWED]),
            pool_size=0,
        ),
    ):
        pass
    message = told(failed)
    assert "4 validation errors for Settings\n" in message
    for name in ("database_url", "pool_size", "cors_origins.0", "cors_origins.1"):
        assert f"\n{name}\n" in message
    assert "hunter2" not in message


COMPOSE = """
COMPOSE_PROJECT_NAME=shop
POSTGRES_PASSWORD=hunter2
"""
# Earlier ones take this for the field, whatever the prefix is.
if release("pydantic-settings") >= asked("pydantic-settings"):
    COMPOSE += "DATABASE_URL=postgres://postgres:hunter2@db/shop\n"


def with_dotenv(folder: Path, text: str) -> Path:
    shutil.copy(TEMPLATE, folder / "app.py")
    (folder / ".env").write_text(text)
    return folder


@pytest.mark.skipif(
    release("uvicorn") < (0, 50),
    reason="uvicorn starts workers that cannot start over and over",
)
def test_a_fault_ends_all_workers(folder: Path) -> None:
    with (
        pytest.raises(ServiceFailed, match="stopping the parent process"),
        running(folder, options={"workers": 2}),
    ):
        pass


async def test_settings_are_read_from_a_dotenv_file_that_others_use_too(
    tmp_path: Path, server: Postgres
) -> None:
    url = server.url(driver="asyncpg")
    ours = f"SHOP_DATABASE_URL={url}\nSHOP_POOL_SIZE=7\nSHOP_MAX_OVERFLOW=1\n"
    # Kubernetes gives names such as SHOP_PORT to all pods beside a service called shop.
    with running(with_dotenv(tmp_path, COMPOSE + ours), port="tcp://10.0.0.1:80") as program:
        async with connected(program) as client:
            assert (await metrics(client))["db_pool_limit"] == 8
            assert await ready(client)


def test_a_name_of_its_own_that_is_unknown_stops_the_start(
    tmp_path: Path, server: Postgres
) -> None:
    ours = f"SHOP_DATABASE_URL={server.url(driver='asyncpg')}\nSHOP_POOL_SISE=7\n"
    with pytest.raises(ServiceFailed) as failed, running(with_dotenv(tmp_path, COMPOSE + ours)):
        pass
    assert "1 validation error for Settings\nshop_pool_sise\n  Extra inputs" in told(failed)
    assert "hunter2" not in told(failed)


def test_a_name_without_prefix_is_of_others_from_the_release_that_the_first_lines_ask_for(
    tmp_path: Path,
) -> None:
    folder = with_dotenv(tmp_path, "POOL_SIZE=7\n")
    program = "import app; print(app.Settings.model_validate({}).pool_size)"
    told = python(program, folder, "postgresql+asyncpg://localhost/shop")
    new = release("pydantic-settings") >= asked("pydantic-settings")
    assert int(told) == (10 if new else 7)


# So that no worker has made the table before the others look for it.
SLOWLY = """
CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(2); END $$;
CREATE EVENT TRIGGER slowly ON ddl_command_start EXECUTE FUNCTION wait();
"""


async def test_four_workers_at_once_make_the_tables_once(folder: Path, server: Postgres) -> None:
    database = server.create_database()
    await database.execute(SLOWLY)
    with running(
        folder, options={"workers": 4}, database_url=database.url(), create_tables="true"
    ) as program:
        await until(lambda: program.output().count("Application startup complete.") == 4)
        assert "Traceback" not in program.output()
        async with connected(program) as client:
            assert (await create(client)).status_code == 201


IN_A_THREAD = """
import warnings; warnings.simplefilter("ignore")
import app
from starlette.testclient import TestClient
with TestClient(app.app) as client:
    print(client.get("/health/live").status_code)
"""


def test_it_starts_in_a_thread_for_a_test(folder: Path, server: Postgres) -> None:
    assert python(IN_A_THREAD, folder, server.url(driver="asyncpg")).splitlines()[-1] == "200"


def python(program: str, folder: Path, address: str) -> str:
    """Run it with these settings; give what it prints."""
    env = {**os.environ, "SHOP_DATABASE_URL": address}
    command = [sys.executable, "-c", program]
    told = subprocess.run(
        command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return told.stdout


DDL = """
import app, sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

made = sa.Table(
    "made", app.Base.metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey("orders.id"), index=True),
    sa.Column("code", sa.Text, unique=True),
)
print(CreateTable(made), *map(CreateIndex, made.indexes))
"""


def test_every_constraint_has_a_name_by_which_a_migration_can_drop_it(folder: Path) -> None:
    told = python(DDL, folder, "postgresql+asyncpg://localhost/shop")
    for name in ("pk_made", "fk_made_order_id", "uq_made_code", "ix_made_order_id"):
        assert f" {name} " in told
