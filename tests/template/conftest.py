"""The template on a PostgreSQL of its own, which is stopped too."""

from __future__ import annotations

import json
import os
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
    EXTRA,
    MAX_BODY,
    PATIENT,
    POOL_SIZE,
    POOL_TIMEOUT,
    READY_TIMEOUT,
    SLOW,
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


@pytest.fixture(scope="package")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a copy lies that has the routes of EXTRA as well."""
    path = tmp_path_factory.mktemp("extended")
    (path / "app.py").write_text(TEMPLATE.read_text("utf-8") + EXTRA, "utf-8")
    return path


@pytest.fixture(scope="package", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in (*os.environ,):
            if name.startswith("SHOP_") or name in {"PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"}:
                patch.delenv(name)
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
        statement_timeout=PATIENT,
        lock_timeout=PATIENT,
        silence_timeout=PATIENT,
        ready_timeout=READY_TIMEOUT,
    ) as started:
        yield started


@pytest.fixture(scope="package")
def extended_program(extended: Path, shop: Database, program: Program) -> Iterator[Program]:
    """`program` with the routes of EXTRA, at the same database; its statements may not be slow."""
    with running(
        extended,
        database_url=shop.url(),
        pool_size=POOL_SIZE,
        pool_timeout=0.2,
        pool_recycle=1,
        statement_timeout=SLOW,
        idle_timeout=PATIENT,
        max_body=MAX_BODY,
        trust_request_id="true",
    ) as started:
        yield started


@pytest.fixture
async def extra(extended_program: Program, shop: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `extended_program`, which has no orders yet."""
    await shop.execute("TRUNCATE orders")
    async with connected(extended_program) as opened:
        yield opened


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
