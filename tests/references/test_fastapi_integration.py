"""references/fastapi-integration.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.references.harness import (
    LIMIT,
    run,
    until,
)
from tests.services import Database, proxied, serving


@asynccontextmanager
async def _integrated(
    database: Database, *, deferred: bool = False, through: int | None = None
) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    """The service under a real uvicorn.

    `deferred` checks its constraint at the commit, `through` is the port that it connects to.
    """
    url = database.url().replace(str(database.server.port), str(through or database.server.port))
    module = run("fastapi-integration", "OrderRepository", database_url=url)
    engine = create_async_engine(database.url())
    async with engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
    await engine.dispose()
    if deferred:
        await database.execute(
            "ALTER TABLE orders DROP CONSTRAINT orders_number_key,"
            " ADD CONSTRAINT later UNIQUE (number) DEFERRABLE INITIALLY DEFERRED"
        )
    async with (
        serving(module.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        yield module, client


def _pool(app: FastAPI) -> Any:
    return app.state.sessions.kw["bind"].pool


async def test_an_error_that_names_no_violation_is_no_conflict() -> None:
    module = run("fastapi-integration", "OrderRepository", database_url="")
    error = IntegrityError("INSERT", None, ValueError())
    with pytest.raises(IntegrityError):
        await module.on_conflict(None, error)


@pytest.mark.parametrize("deferred", [False, True])
async def test_a_conflict_is_a_409_at_the_flush_and_at_the_commit(
    database: Database, deferred: bool
) -> None:
    async with _integrated(database, deferred=deferred) as (module, client):
        statuses = [(await client.post("/orders/7")).status_code for _ in range(2)]
        found, missing = await client.get("/orders/7"), await client.get("/orders/8")
        assert (statuses, found.json(), missing.status_code) == ([201, 409], 1, 404)
        assert _pool(module.app).checkedin() == 1
    assert _pool(module.app).checkedin() == 0
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
    await until(lambda: database.connections() == 0)


async def test_another_integrity_error_is_no_conflict_and_a_wrong_number_is_refused(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with _integrated(database) as (_, client):
        await database.execute("ALTER TABLE orders ADD CHECK (number <> 13)")
        numbers = [13, 0, -5, 2**63, 2**63 - 1, 1]
        statuses = [(await client.post(f"/orders/{number}")).status_code for number in numbers]
        found = [(await client.get(f"/orders/{number}")).status_code for number in numbers]
    assert statuses == [500, 422, 422, 422, 201, 201]
    assert found == [404, 422, 422, 422, 200, 200]
    assert "violates check constraint" in caplog.text


@pytest.mark.parametrize(
    ("path", "status", "kept"), [("/dependency", 500, [1]), ("/factory", 200, [1, 2])]
)
async def test_a_route_that_calls_a_service_takes_two_sessions_from_the_factory(
    database: Database, path: str, status: int, kept: list[int]
) -> None:
    async with _integrated(database) as (module, client):
        app: FastAPI = module.app

        @app.get("/dependency")
        async def one(session: Any = module.Session.__metadata__[0]) -> None:
            session.add(module.Order(number=1))
            await session.commit()
            session.add(module.Order(number=2))
            await session.flush()

        @app.get("/factory")
        async def two() -> None:
            for number in (1, 2):
                order = module.Order(number=number)
                async with app.state.sessions.begin() as session:
                    session.add(order)
                assert order.number == number
                assert database.connections() == 1
                assert _pool(app).checkedout() == 0

        assert (await client.get(path)).status_code == status
    assert await database.fetchval("SELECT array_agg(number ORDER BY id) FROM orders") == kept


async def test_the_pool_has_ten_connections_and_nobody_waits_long_for_one(
    database: Database,
) -> None:
    async with _integrated(database) as (module, client), AsyncExitStack() as stack:
        assert _pool(module.app).timeout() == 1
        for _ in range(10):
            await stack.enter_async_context(module.app.state.sessions.kw["bind"].connect())
        assert (await client.get("/orders/7")).status_code == 500


async def test_a_connection_that_died_while_idle_is_replaced(database: Database) -> None:
    async with _integrated(database) as (_, client):
        first = await client.post("/orders/7")
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await until(lambda: database.connections() == 0)
        second = await client.get("/orders/7")
    assert (first.status_code, second.status_code) == (201, 200)


def _rolled_back(module: Any, database: Database) -> Any:
    return run(
        "fastapi-integration",
        "rolled_back_client",
        app=module.app,
        get_session=module.get_session,
        database_url=database.url(),
    ).rolled_back_client()


async def test_a_rolled_back_test_sees_its_writes_and_leaves_none(database: Database) -> None:
    async with _integrated(database) as (module, client):
        async with _rolled_back(module, database) as testing:
            statuses = [(await testing.post(f"/orders/{each}")).status_code for each in (7, 7, 8)]
            found = [(await testing.get(f"/orders/{each}")).status_code for each in (7, 8, 9)]
            assert await database.fetchval("SELECT count(*) FROM orders") == 0
        assert (statuses, found) == ([201, 409, 201], [200, 200, 404])
        assert module.app.dependency_overrides == {}
        assert testing.is_closed
        assert database.connections() == 0  # and the service opens its first one now
        assert (await client.get("/orders/7")).status_code == 404
    assert await database.fetchval("SELECT count(*) FROM orders") == 0


async def test_a_route_fails_and_commits_in_a_rolled_back_test_as_in_the_service(
    database: Database,
) -> None:
    async with _integrated(database) as (module, _):
        app: FastAPI = module.app
        session_of_request = module.Session.__metadata__[0]

        @app.post("/fails")
        async def fail(session: Any = session_of_request) -> None:
            session.add(module.Order(number=7))
            await session.flush()
            raise HTTPException(418)

        @app.post("/commits")
        async def commit(session: Any = session_of_request) -> int:
            order = module.Order(number=8)
            session.add(order)
            await session.commit()
            return int(order.number)

        async with _rolled_back(module, database) as testing:
            answers = [await testing.post(path) for path in ("/fails", "/commits")]
            found = [(await testing.get(f"/orders/{each}")).status_code for each in (7, 8)]
    assert [answer.status_code for answer in answers] == [418, 200]
    assert found == [404, 200]


async def test_a_rolled_back_test_does_not_check_a_deferred_constraint(
    database: Database,
) -> None:
    async with (
        _integrated(database, deferred=True) as (module, _),
        _rolled_back(module, database) as testing,
    ):
        statuses = [(await testing.post("/orders/7")).status_code for _ in range(2)]
    assert statuses == [201, 201]


@pytest.mark.parametrize("connected", [False, True])
async def test_a_database_that_went_silent_costs_seconds_not_a_minute(
    database: Database, connected: bool
) -> None:
    async with (
        proxied(database.server.port) as proxy,
        _integrated(database, through=proxy.port) as (_, client),
    ):
        if connected:
            assert (await client.post("/orders/7")).status_code == 201
        proxy.answering.clear()
        assert (await client.get("/orders/7")).status_code == 500
        proxy.answering.set()
