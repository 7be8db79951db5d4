"""references/fastapi-app-boilerplate.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.references.harness import (
    BLOCKS,
    LIMIT,
    RAN,
    rows_of,
    until,
)
from tests.services import Database, proxied, serving


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
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SHOP_DATABASE_URL", raising=False)
    yield files
    for module in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[module]


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


async def test_the_service_keeps_orders_and_closes_its_connections(
    shop: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    await database.execute("CREATE TABLE orders (id serial PRIMARY KEY, number bigint UNIQUE)")
    async with (
        serving("shop.main:create_app", factory=True) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        placed = await client.post("/orders/7")
        again = await client.post("/orders/7")
        assert await database.fetchval("SELECT count(*) FROM orders") == 1
        assert database.connections() == 1
    assert (placed.status_code, placed.json()) == (201, {"id": 1, "number": 7})
    assert again.status_code == 409
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.json() == {"status": 409, "detail": "There is an order 7."}
    await until(lambda: database.connections() == 0)


@pytest.mark.parametrize(
    ("number", "status"), [(0, 422), (-5, 422), (2**63, 422), (2**63 - 1, 201)]
)
async def test_a_number_that_the_column_cannot_hold_is_refused(
    shop: dict[str, str],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    await database.execute("CREATE TABLE orders (id serial PRIMARY KEY, number bigint UNIQUE)")
    assert (await _placed(number)).status_code == status


async def _placed(number: int) -> httpx.Response:
    async with (
        serving("shop.main:create_app", factory=True) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        return await client.post(f"/orders/{number}")


async def test_another_integrity_error_is_no_conflict(
    shop: dict[str, str],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    await database.execute(
        "CREATE TABLE orders (id serial PRIMARY KEY, number bigint UNIQUE CHECK (number <> 13))"
    )
    assert (await _placed(13)).status_code == 500
    assert "violates check constraint" in caplog.text


@pytest.mark.parametrize("connected", [False, True])
async def test_a_database_that_went_silent_costs_seconds_not_a_minute(
    shop: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    await database.execute("CREATE TABLE orders (id serial PRIMARY KEY, number bigint UNIQUE)")
    async with proxied(database.server.port) as proxy:
        url = database.url().replace(str(database.server.port), str(proxy.port))
        monkeypatch.setenv("SHOP_DATABASE_URL", url)
        async with (
            serving("shop.main:create_app", factory=True) as served,
            httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
        ):
            if connected:
                assert (await client.post("/orders/7")).status_code == 201
            proxy.answering.clear()
            assert (await client.post("/orders/8")).status_code == 500
            proxy.answering.set()


async def test_without_its_settings_the_service_does_not_start_and_says_which(
    shop: dict[str, str],
) -> None:
    main = importlib.import_module("shop.main")
    with pytest.raises(Exception, match="database_url"):
        async with serving(main.create_app()):
            pass


def test_a_factory_gives_each_test_an_app_of_its_own(shop: dict[str, str]) -> None:
    main = importlib.import_module("shop.main")
    one, other = main.create_app(), main.create_app()
    one.dependency_overrides[len] = max
    assert other.dependency_overrides == {}
    assert not hasattr(one.state, "sessions")
