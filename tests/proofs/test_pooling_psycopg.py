"""A connection that leaves the block of psycopg's pool is somebody else's, or closed."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import psycopg_pool
import pytest
from fastapi import HTTPException
from psycopg_pool import AsyncConnectionPool

from tests.proofs.harness import Block, Witness
from tests.proofs.network import Network
from tests.services import Database, serving

ORDERS = "SELECT count(*) FROM orders"
# The key is looked at when the transaction commits.
TABLE = "CREATE TABLE orders (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)"
KILL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@asynccontextmanager
async def _shop(block: Block, database: Database) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    """The block's app on uvicorn with its pool filled, and a client of it."""
    await database.execute(TABLE)
    app = block.run(database_url=database.dsn).app
    async with (
        asyncio.timeout(10),
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        await app.state.pool.wait()
        yield app, client


async def _post_ten(block: Block, database: Database) -> tuple[list[int], int]:
    """The answers to ten inserts, one after the other, and the rows once the app has stopped."""
    async with _shop(block, database) as (_, client):
        answers = [(await client.post(f"/orders/{n}")).status_code for n in range(10)]
    return answers, await database.fetchval(ORDERS)


async def test_incorrect_answers_200_and_loses_rows(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _post_ten(incorrect, database) == ([200] * 10, 6)
    witness.observed(
        incorrect="10 inserts on a pool of 4: 10 answers of 200, 6 rows; "
        "past max_lifetime: the connection is closed"
    )


async def test_correct_stores_what_it_answers_with_200(
    correct: Block, database: Database, witness: Witness
) -> None:
    assert await _post_ten(correct, database) == ([200] * 10, 10)
    witness.observed(correct="10 inserts: 10 answers of 200, 10 rows; past max_lifetime: stored")


async def _post_past_the_lifetime(
    block: Block, database: Database, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """The answer on a connection that has outlived `max_lifetime`, and the rows."""

    class ShortLived(AsyncConnectionPool):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, max_lifetime=0.05, **options)

    monkeypatch.setattr(psycopg_pool, "AsyncConnectionPool", ShortLived)
    async with _shop(block, database) as (_, client):
        await asyncio.sleep(0.2)
        answer = await client.post("/orders/1")
    return answer.status_code, await database.fetchval(ORDERS)


async def test_incorrect_works_on_a_closed_connection_past_its_lifetime(
    incorrect: Block,
    database: Database,
    witness: Witness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await _post_past_the_lifetime(incorrect, database, monkeypatch) == (500, 0)
    witness.saw(caplog.text)
    assert "psycopg.OperationalError: the connection is closed" in caplog.text


async def test_correct_may_use_a_connection_past_its_lifetime(
    correct: Block, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _post_past_the_lifetime(correct, database, monkeypatch) == (200, 1)


async def test_correct_answers_500_where_the_commit_fails(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as (_, client):
        answers = [(await client.post("/orders/1")).status_code for _ in range(3)]
    assert (answers, await database.fetchval(ORDERS)) == ([200, 500, 500], 1)


async def test_correct_rolls_back_where_the_route_raises(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as (app, client):
        create = app.router.routes[-1].endpoint

        async def refused(order_id: int, connection: Any) -> None:
            await create(order_id, connection)
            raise HTTPException(409)

        refused.__annotations__ = inspect.get_annotations(create)
        app.post("/refused/{order_id}")(refused)
        answers = [(await client.post("/refused/1")).status_code for _ in range(10)]
        assert (await client.post("/orders/2")).status_code == 200
    assert (answers, await database.fetchval(ORDERS)) == ([409] * 10, 1)


async def test_correct_replaces_connections_that_the_server_ended(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as (app, client):
        app.state.pool.timeout = 8  # new connections take their time on a busy machine
        await database.fetch(KILL, database.name)
        answers = [(await client.post(f"/orders/{n}")).status_code for n in range(4)]
    assert (answers, await database.fetchval(ORDERS)) == ([200] * 4, 4)


async def test_correct_ends_the_wait_for_a_connection(
    correct: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    async with _shop(correct, database) as (app, client):
        pool = app.state.pool
        assert (pool.min_size, pool.max_size, pool.timeout) == (2, 8, 1)
        out = [await pool.getconn() for _ in range(pool.max_size)]
        answer = await client.post("/orders/1")
        for each in out:
            await pool.putconn(each)
    assert answer.status_code == 500
    witness.saw(caplog.text)
    assert "psycopg_pool.PoolTimeout: couldn't get a connection after 1.00 sec" in caplog.text


async def test_correct_leaves_no_connection_and_warns_of_nothing(
    correct: Block, database: Database
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with _shop(correct, database) as (app, _):
            assert database.connections() == 2
    assert app.state.pool.closed
    await database.left()


async def test_a_pool_opens_once_and_not_in_its_constructor(
    database: Database, witness: Witness
) -> None:
    assert inspect.signature(AsyncConnectionPool).parameters["timeout"].default == 30
    warns = pytest.warns((RuntimeWarning, DeprecationWarning), match="in the constructor")
    with warns as told:
        opened = AsyncConnectionPool(database.dsn, open=True)
    await opened.close()
    witness.saw(str(told[0].message))
    implicit = AsyncConnectionPool(database.dsn)
    with warns as told:
        async with implicit.connection():
            pass
    await implicit.close()
    witness.saw(str(told[0].message))
    pool = AsyncConnectionPool(database.dsn, open=False)
    with pytest.raises(psycopg_pool.PoolClosed) as early:
        await pool.getconn()
    witness.saw(early.value)
    await pool.open()
    with pytest.raises(AttributeError) as bare:
        await pool.connection().execute("SELECT 7")  # type: ignore[attr-defined]
    witness.saw(bare.value)
    await pool.close()
    with pytest.raises(psycopg.OperationalError, match="cannot be reused"):
        await pool.open()


async def test_neither_check_nor_timeout_ends_the_wait_for_a_silent_server(
    database: Database,
) -> None:
    async with asyncio.timeout(15), Network(database) as network:
        dsn = network.url().replace("+asyncpg", "")
        pool = AsyncConnectionPool(
            f"{dsn}?sslmode=disable",
            open=False,
            min_size=1,
            timeout=0.2,
            check=AsyncConnectionPool.check_connection,
        )
        await pool.open(wait=True, timeout=8)
        network.fall_silent()
        taking = asyncio.ensure_future(pool.getconn())
        await asyncio.wait({taking}, timeout=1.5)
        assert not taking.done()
        network.end_connections()
        await asyncio.wait({taking})
        if not taking.exception():
            await pool.putconn(taking.result())
        await pool.close()
