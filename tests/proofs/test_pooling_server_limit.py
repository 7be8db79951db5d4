"""The pools of all processes together must fit into the server's max_connections."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database, Postgres

MAX_CONNECTIONS = 20
RESERVED = 3  # superuser_reserved_connections
REPLICAS, PROCESSES = 2, 2
REQUESTS = 15  # to each process


@pytest.fixture(scope="module")
def small() -> Iterator[Postgres]:
    """A server with few connections and a role for the service."""
    with Postgres(max_connections=MAX_CONNECTIONS) as server:
        yield server


@pytest.fixture
async def few(small: Postgres) -> Any:
    database = small.create_database()
    await database.execute("DROP ROLE IF EXISTS service; CREATE ROLE service LOGIN")
    yield database
    database.drop()


def _url(database: Database, role: str, driver: str = "asyncpg") -> str:
    return database.url(driver).replace("postgres@", f"{role}@")


async def _administer(database: Database) -> Exception | None:
    """The error that an administrator gets, if any; backends that were refused may still end."""
    error: Exception | None = None
    for _ in range(10):
        try:
            await database.fetchval("SELECT 1")
        except asyncpg.PostgresError as refused:
            error = refused
            await asyncio.sleep(0.1)
        else:
            return None
    return error


def _is_too_many(error: BaseException) -> bool:
    """Whether it is asyncpg's error: bare in SQLAlchemy 2.0, the cause of a DBAPIError in 2.1."""
    if sqlalchemy.__version__ < "2.1":
        return isinstance(error, asyncpg.TooManyConnectionsError)
    return isinstance(error, exc.DBAPIError) and "TooManyConnectionsError" in "".join(
        traceback.format_exception(error)
    )


async def _busy_everywhere(
    block: Block, database: Database, role: str
) -> tuple[list[Any], int, Exception | None]:
    """What happens when every process has as many requests at once.

    Gives the outcome of each request, the most connections at once, and the error of an
    administrator who comes while they are open.
    """
    given = {
        "url": _url(database, role),
        "max_connections": MAX_CONNECTIONS,
        "replicas": REPLICAS,
        "processes": PROCESSES,
    }
    engines = [
        block.run(**{name: given[name] for name in block.given}).engine
        for _ in range(REPLICAS * PROCESSES)
    ]
    asked = sum(each.pool.size() + each.pool._max_overflow for each in engines)
    connected = failed = 0
    go_on = asyncio.Event()

    async def request(engine: Any) -> bool:
        nonlocal connected, failed
        try:
            async with engine.connect():
                connected += 1
                await go_on.wait()
        except Exception:
            failed += 1
            raise
        return True

    requests = []
    async with asyncio.timeout(30):
        try:
            for each in engines * REQUESTS:  # one after the other, so that each count is exact
                requests.append(asyncio.ensure_future(request(each)))
                while connected + failed < min(len(requests), asked):
                    await asyncio.sleep(0.001)
            most, refused = connected, await _administer(database)
        finally:
            go_on.set()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            for each in engines:
                await each.dispose()
    return outcomes, most, refused


async def test_incorrect_fails_the_requests_beyond_the_servers_limit(
    incorrect: Block, few: Database, witness: Witness
) -> None:
    outcomes, most, refused = await _busy_everywhere(incorrect, few, "service")
    errors = [each for each in outcomes if each is not True]
    assert (len(outcomes), most, refused) == (60, MAX_CONNECTIONS - RESERVED, None)
    assert [_is_too_many(each) for each in errors] == [True] * 43
    assert "remaining connection slots are reserved for" in str(errors[0])
    witness.saw(errors[0])
    witness.observed(incorrect="4 processes, a server of 20 connections: 43 of 60 requests failed")


async def test_incorrect_as_a_superuser_locks_the_administrator_out_too(
    incorrect: Block, few: Database, witness: Witness
) -> None:
    outcomes, most, refused = await _busy_everywhere(incorrect, few, "postgres")
    assert (outcomes.count(True), most) == (MAX_CONNECTIONS, MAX_CONNECTIONS)
    assert isinstance(refused, asyncpg.TooManyConnectionsError)
    witness.saw(refused)


async def test_correct_serves_all_requests_with_the_share_of_each_process(
    correct: Block, few: Database, witness: Witness
) -> None:
    outcomes, most, refused = await _busy_everywhere(correct, few, "service")
    assert (outcomes.count(True), most, refused) == (60, 12, None)
    witness.observed(correct="the same requests over 4 x 3 connections: 60 of 60 served")


def test_correct_refuses_more_processes_than_connections(correct: Block) -> None:
    with pytest.raises(ValueError, match="16 processes, 20 connections"):
        correct.run(url="", max_connections=20, replicas=4, processes=4)


def test_correct_divides_what_is_not_reserved(correct: Block) -> None:
    url = "postgresql+asyncpg://"
    module = correct.run(url=url, max_connections=21, replicas=4, processes=4)
    assert module.engine.pool.size() == 1
    shares = [module.connections_per_process(limit, 4, 4) for limit in (84, 85, 100)]
    assert shares == [4, 5, 5]


async def test_psycopg_reports_it_as_an_operational_error(few: Database, witness: Witness) -> None:
    engine = create_async_engine(_url(few, "postgres", "psycopg"), pool_size=MAX_CONNECTIONS + 1)
    opened = []
    try:
        with pytest.raises(exc.OperationalError) as raised:
            for _ in range(MAX_CONNECTIONS + 1):
                opened.append(await engine.connect())
    finally:
        for each in opened:
            await each.close()
        await engine.dispose()
    witness.saw(raised.value)


async def test_a_role_can_have_a_limit_of_its_own(few: Database, witness: Witness) -> None:
    await few.execute("ALTER ROLE service CONNECTION LIMIT 2")
    engine = create_async_engine(_url(few, "service"))
    try:
        async with engine.connect(), engine.connect():
            with pytest.raises(Exception, match='for role "service"') as raised:
                await engine.connect()
    finally:
        await engine.dispose()
    assert _is_too_many(raised.value)
    witness.saw(raised.value)
