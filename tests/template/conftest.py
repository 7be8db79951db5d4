"""The template on a PostgreSQL of its own, which is stopped too."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.services import (
    Database,
    Postgres,
    Program,
)
from tests.template.harness import (
    ALLOWED,
    PATIENT,
    POOL_SIZE,
    POOL_TIMEOUT,
    READY_TIMEOUT,
    TEMPLATE,
    altered,
    connected,
    running,
)


@pytest.fixture(scope="package")
def server() -> Iterator[Postgres]:
    """A PostgreSQL that these tests may stop."""
    with Postgres() as own:
        yield own


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the template lies as app.py, as its first lines say."""
    path = tmp_path_factory.mktemp("template")
    shutil.copy(TEMPLATE, path / "app.py")
    return path


@pytest.fixture(scope="package", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "CREATE_TABLES", "WEBHOOK_URL", "CORS_ORIGINS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="package")
def shop(server: Postgres) -> Database:
    """The database of `program`."""
    return server.create_database("shop")


@pytest.fixture(scope="package")
def program(folder: Path, shop: Database) -> Iterator[Program]:
    """One for all tests that do not end it. Its pool is small, and requests wait long for it."""
    with running(
        folder,
        database_url=shop.url(),
        create_tables="true",
        cors_origins=json.dumps([ALLOWED]),
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT,
        command_timeout=PATIENT,
        ready_timeout=READY_TIMEOUT,
    ) as started:
        yield started


@pytest.fixture
async def client(program: Program, shop: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `program`, which has no orders yet."""
    await shop.execute("TRUNCATE orders")
    async with connected(program) as opened:
        yield opened


@pytest.fixture
async def broken(program: Program, shop: Database) -> AsyncIterator[None]:
    """Without the table a read is an error that nobody handles."""
    async with altered(shop, "orders RENAME TO away", "away RENAME TO orders"):
        yield
