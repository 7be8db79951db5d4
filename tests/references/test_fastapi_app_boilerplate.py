"""references/fastapi-app-boilerplate.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.references.harness import (
    BLOCKS,
    LIMIT,
    RAN,
    rows_of,
    until,
)
from tests.services import Database, ServiceFailed, proxied, serving


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The package, written as its blocks say. Gives the code by its path."""
    files = {}
    for block in BLOCKS["fastapi-app-boilerplate"]:
        path = block.code.splitlines()[0].removeprefix("# ")
        files[path] = block.code
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(block.code, "utf-8")
        RAN.add(("fastapi-app-boilerplate", block.line))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("SHOP_DATABASE_URL", "SHOP_POOL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield files
    for module in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[module]


@pytest.fixture
async def orders(
    shop: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> Database:
    """A database with the tables of the models, which the settings name."""
    await _make_tables(database)
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    return database


async def _make_tables(database: Database) -> None:
    engine = create_async_engine(database.url())
    async with engine.begin() as connection:
        models = importlib.import_module("shop.models")
        await connection.run_sync(models.Base.metadata.create_all)
    await engine.dispose()


@asynccontextmanager
async def _client(
    app: Callable[..., Any] | str = "shop.main:create_app",
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(app, factory=isinstance(app, str)) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        yield client


def _app() -> Any:
    return importlib.import_module("shop.main").create_app()


def test_the_files_are_those_of_the_table_and_import_only_from_above(
    shop: dict[str, str],
) -> None:
    paths = [row[0].strip("`") for row in rows_of("fastapi-app-boilerplate")]
    assert paths == list(shop)
    for place, path in enumerate(paths):
        for node in ast.walk(ast.parse(shop[path])):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("shop"):
                assert paths.index(node.module.replace(".", "/") + ".py") < place
    http = re.compile(r"fastapi|starlette|status|\b4\d\d\b")
    assert not any(http.search(shop[f"shop/{name}.py"]) for name in ("errors", "orders/service"))


def test_a_factory_gives_each_test_an_app_of_its_own(shop: dict[str, str]) -> None:
    one, other = _app(), _app()
    one.dependency_overrides[len] = max
    assert other.dependency_overrides == {}
    assert not hasattr(one.state, "sessions")


async def test_without_its_settings_the_service_does_not_start_and_says_which(
    shop: dict[str, str],
) -> None:
    with pytest.raises(ServiceFailed, match="database_url\n  Field required"):
        async with serving(_app()):
            pass


def test_an_address_that_is_refused_is_not_repeated(
    shop: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", "mysql://orders:hunter2@db/orders")
    monkeypatch.setenv("SHOP_POOL_SIZE", "0")
    settings = importlib.import_module("shop.settings").Settings
    with pytest.raises(ValueError, match="2 validation errors for Settings") as refused:
        settings.model_validate({})
    assert "hunter2" not in str(refused.value)


class _Session:
    """Takes an order, and fails as it is flushed."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def add(self, order: Any) -> None:
        assert order.number == 7

    async def flush(self) -> None:
        raise self._error


class _Refusal(Exception):
    """The error of a driver."""

    def __init__(self, **members: str) -> None:
        vars(self).update(members)


async def _place(error: BaseException) -> None:
    service = importlib.import_module("shop.orders.service")
    await service.OrderService(_Session(error)).place(7)


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("INSERT", None, _Refusal()),
        IntegrityError("INSERT", None, _Refusal(sqlstate="23514")),
        ConnectionError(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_is_no_conflict_leaves_the_service_as_it_is(
    shop: dict[str, str], error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised:
        await _place(error)
    assert raised.value is error


async def test_a_conflict_says_which_order_it_is_and_has_its_cause(shop: dict[str, str]) -> None:
    conflict = importlib.import_module("shop.errors").Conflict
    error = IntegrityError("INSERT", None, _Refusal(sqlstate="23505"))
    with pytest.raises(conflict, match=r"^There is an order 7\.$") as raised:
        await _place(error)
    assert raised.value.__cause__ is error


async def test_the_service_keeps_orders_and_closes_its_connections(orders: Database) -> None:
    async with _client() as client:
        placed = await client.post("/orders/7")
        again = await client.post("/orders/7")
        assert await orders.fetchval("SELECT count(*) FROM orders") == 1
        assert orders.connections() == 1
        document = (await client.get("/openapi.json")).json()
    assert (placed.status_code, placed.json()) == (201, {"id": 1, "number": 7})
    assert again.status_code == 409
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.json() == {"status": 409, "detail": "There is an order 7."}
    assert document["paths"]["/orders/{number}"]["post"]["tags"] == ["orders"]
    await until(lambda: orders.connections() == 0)


async def test_a_number_that_the_column_cannot_hold_is_refused(orders: Database) -> None:
    numbers = [0, -5, 2**63, 1, 2**63 - 1]
    async with _client() as client:
        statuses = [(await client.post(f"/orders/{number}")).status_code for number in numbers]
    assert statuses == [422, 422, 422, 201, 201]


async def test_a_commit_that_fails_is_no_201(orders: Database) -> None:
    await orders.execute(
        "ALTER TABLE orders DROP CONSTRAINT orders_number_key,"
        " ADD CONSTRAINT later UNIQUE (number) DEFERRABLE INITIALLY DEFERRED"
    )
    async with _client() as client:
        statuses = [(await client.post("/orders/7")).status_code for _ in range(2)]
    assert statuses == [201, 500]


async def test_another_integrity_error_is_no_conflict(
    orders: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await orders.execute("ALTER TABLE orders ADD CHECK (number <> 13)")
    async with _client() as client:
        assert (await client.post("/orders/13")).status_code == 500
    assert "violates check constraint" in caplog.text


async def test_a_new_column_is_not_sent(
    shop: dict[str, str],
    tmp_path: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "shop" / "models.py").open("a", encoding="utf-8") as models:
        models.write("    cost: Mapped[int] = mapped_column(default=3)\n")
    await _make_tables(database)
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    async with _client() as client:
        placed = await client.post("/orders/7")
    assert placed.json() == {"id": 1, "number": 7}
    assert await database.fetchval("SELECT cost FROM orders") == 3


async def test_a_job_places_an_order_and_reads_it_after_the_commit(orders: Database) -> None:
    app = _app()
    service = importlib.import_module("shop.orders.service")
    async with serving(app):
        async with app.state.sessions.begin() as session:
            order = await service.OrderService(session).place(7)
        assert (order.id, order.number) == (1, 7)
        pool = app.state.sessions.kw["bind"].pool
        assert pool.checkedin() == 1
    assert pool.checkedin() == 0


@pytest.mark.parametrize("size", [None, 2])
async def test_the_pool_is_as_large_as_the_settings_say_and_nobody_waits_long_for_it(
    orders: Database, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    if size:
        monkeypatch.setenv("SHOP_POOL_SIZE", str(size))
    app = _app()
    async with _client(app) as client, AsyncExitStack() as stack:
        engine = app.state.sessions.kw["bind"]
        assert engine.pool.timeout() == 1
        for _ in range(size or 10):
            await stack.enter_async_context(engine.connect())
        assert (await client.post("/orders/7")).status_code == 500


async def test_a_connection_that_died_while_idle_is_replaced(orders: Database) -> None:
    async with _client() as client:
        first = await client.post("/orders/7")
        await orders.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await until(lambda: orders.connections() == 0)
        second = await client.post("/orders/8")
    assert (first.status_code, second.status_code) == (201, 201)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_database_that_went_silent_costs_seconds_not_a_minute(
    orders: Database, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    async with proxied(orders.server.port) as proxy:
        url = orders.url().replace(str(orders.server.port), str(proxy.port))
        monkeypatch.setenv("SHOP_DATABASE_URL", url)
        async with _client() as client:
            if connected:
                assert (await client.post("/orders/7")).status_code == 201
            proxy.answering.clear()
            assert (await client.post("/orders/8")).status_code == 500
            proxy.answering.set()
