"""An exhausted pool answers 503 soon only where its wait is bounded and its error is handled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import httpx
import psycopg
import pytest
import sqlalchemy
from fastapi import FastAPI
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.network import Network, hurried
from tests.services import Database, free_port, serving
from tests.services.process import HOST

KILL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def _limit(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    return int(pool.size() + pool._max_overflow)


@asynccontextmanager
async def _exhausted(block: Block, database: Database) -> AsyncIterator[tuple[Any, Any]]:
    """The block's engine, all of whose connections are out, and a client of its application."""
    module = block.run(url=database.url())
    engine: AsyncEngine = module.engine
    try:
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
            AsyncExitStack() as held,
        ):
            assert (await client.get("/orders/next")).json() == 7
            for _ in range(_limit(engine)):
                await held.enter_async_context(engine.connect())
            yield engine, client
    finally:
        await engine.dispose()


async def _answer(client: httpx.AsyncClient, seconds: float = 10) -> httpx.Response | None:
    """The answer, if it comes in time."""
    request = asyncio.ensure_future(client.get("/orders/next"))
    await asyncio.wait({request}, timeout=seconds)
    if request.done():
        return request.result()
    request.cancel()
    await asyncio.wait({request})
    return None


async def test_incorrect_lets_a_request_wait_for_the_default_of_30_seconds(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _exhausted(incorrect, database) as (engine, client):
        assert (engine.pool.size(), _limit(engine), engine.pool.timeout()) == (5, 15, 30.0)
        assert await _answer(client, seconds=2) is None


async def test_incorrect_answers_500_since_no_handler_fits(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with _exhausted(incorrect, database) as (engine, client):
        engine.pool._timeout = 0.1  # 30 in the block: the test does not wait for it
        answer = await _answer(client)
    assert answer is not None
    assert answer.status_code == 500
    witness.observed(incorrect="pool exhausted: no answer in 2 s; when it comes it is a 500")


async def test_correct_answers_503_while_the_caller_waits(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _exhausted(correct, database) as (engine, client):
        assert database.connections() == _limit(engine) == 10
        assert engine.pool.timeout() == 1
        answer = await _answer(client)
    assert answer is not None
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"title": "Service is busy"}
    witness.observed(
        correct="pool exhausted, server down, silent or out of connections: 503; "
        "a slow or a wrong statement: 500"
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return hurried(monkeypatch)


@asynccontextmanager
async def _serving(
    block: Block, url: str, prepare: Callable[[Any], None] = lambda _: None
) -> AsyncIterator[tuple[Any, Any]]:
    """The block's module, which may be prepared before it is served, and a client of its app."""
    module = block.run(url=url)
    prepare(module)
    try:
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
        ):
            yield module, client
    finally:
        await module.engine.dispose()


def _asks(module: Any, statement: str) -> None:
    """A route that runs this statement."""

    @module.app.get("/ask")  # type: ignore[untyped-decorator]
    async def ask() -> None:
        async with module.engine.connect() as connection:
            await connection.execute(text(statement))


async def test_correct_answers_503_where_the_server_refuses_and_500_where_a_file_is_missing(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql+asyncpg://postgres@{HOST}:{free_port()}/orders"
    async with _serving(correct, url) as (module, client):

        @module.app.get("/file")  # type: ignore[untyped-decorator]
        async def file() -> None:
            Path("/no/such/file").read_bytes()

        assert (await client.get("/file")).status_code == 500
        assert (await client.get("/orders/next")).status_code == 503
        with pytest.raises(ConnectionRefusedError) as raised:
            await module.next_number()
        witness.saw(raised.value)


async def test_correct_answers_503_where_the_server_accepts_and_says_nothing(
    correct: Block, asked: dict[str, Any]
) -> None:
    async with _silent() as address:
        url = f"postgresql+asyncpg://postgres@{address}/orders"
        async with _serving(correct, url) as (_, client):
            answer = await _answer(client)
    assert answer is not None
    assert (answer.status_code, asked["timeout"]) == (503, 5)


async def test_correct_answers_503_where_a_connection_fell_silent_and_then_again(
    correct: Block, database: Database, asked: dict[str, Any]
) -> None:
    async with (
        Network(database) as network,
        _serving(correct, network.url()) as (_, client),
    ):
        assert (await client.get("/orders/next")).json() == 7
        network.fall_silent()
        answers = [await _answer(client) for _ in range(2)]
        network.end_connections()
    assert [each and each.status_code for each in answers] == [503, 200]
    assert asked["command_timeout"] == 5


async def test_correct_replaces_connections_that_ended_or_are_old(
    correct: Block, database: Database
) -> None:
    connects: list[Any] = []
    async with _serving(correct, database.url()) as (module, client):
        event.listen(module.engine.sync_engine, "connect", lambda _, r: connects.append(r))
        opened = []
        for age in (0, 178, 4):
            if connects:
                connects[-1].starttime -= age
            assert (await client.get("/orders/next")).json() == 7
            opened.append(len(connects))
        await database.fetch(KILL, database.name)
        assert (await client.get("/orders/next")).json() == 7
        opened.append(len(connects))
    assert opened == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", 503),
        ("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$", 503),
        ("DO $$ BEGIN RAISE EXCEPTION 'starting' USING ERRCODE = '57P03'; END $$", 503),
        ("DO $$ BEGIN RAISE EXCEPTION 'network' USING ERRCODE = '08006'; END $$", 503),
        ("DO $$ BEGIN RAISE EXCEPTION 'twice' USING ERRCODE = '23505'; END $$", 500),
        ("SELECT pg_sleep(20)", 500),
    ],
)
async def test_correct_tells_an_unavailable_server_from_a_wrong_statement(
    correct: Block,
    database: Database,
    asked: dict[str, Any],
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    status: int,
) -> None:
    caplog.set_level(logging.ERROR)
    async with _serving(correct, database.url()) as (module, client):
        _asks(module, statement)
        assert (await client.get("/ask")).status_code == status
        assert (await client.get("/orders/next")).json() == 7
        assert asked["server_settings"]["statement_timeout"] == "4000"
    logged = "".join(record.exc_text or "" for record in caplog.records)
    assert bool(logged) is (status == 500)
    witness.saw(logged)


async def test_correct_takes_an_error_without_a_sqlstate_for_our_own(
    correct: Block, database: Database
) -> None:
    """As psycopg raises it by itself, before it asks the server."""
    module = correct.run(url=database.url())
    with pytest.raises(psycopg.ProgrammingError) as raised, psycopg.connect(database.dsn) as driver:
        driver.execute("SELECT %s", ())
    assert raised.value.sqlstate is None
    assert not module.unavailable(exc.ProgrammingError("SELECT %s", (), raised.value))
    await module.engine.dispose()


async def test_correct_answers_503_where_a_connection_ended_within_a_transaction(
    correct: Block, database: Database
) -> None:
    async with _serving(correct, database.url()) as (module, client):

        @module.app.get("/ended")  # type: ignore[untyped-decorator]
        async def ended() -> None:
            async with module.engine.connect() as connection:
                await connection.execute(text("SELECT 7"))
                driver = (await connection.get_raw_connection()).driver_connection
                await database.fetch(KILL, database.name)
                while not driver.is_closed():
                    await asyncio.sleep(0.01)
                await connection.execute(text("SELECT 7"))

        assert (await client.get("/ended")).status_code == 503
        assert module.engine.pool.timeout() == 1


async def test_correct_answers_503_for_too_many_connections_and_500_once_there_are_enough(
    correct: Block, database: Database, witness: Witness
) -> None:
    role = f"role_{database.name}"
    await database.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    url = database.url().replace("postgres@", f"{role}@")

    def handle_bare_errors(module: Any) -> None:
        """As the rule says for SQLAlchemy 2.0."""

        async def bare(request: Any, error: Any) -> Any:
            return await module.failed(request, exc.DBAPIError("", {}, error))

        if sqlalchemy.__version__ < "2.1":
            module.app.add_exception_handler(asyncpg.PostgresError, bare)

    async with _serving(correct, url, handle_bare_errors) as (module, client):
        _asks(module, "SELECT 1 / 0")
        assert (await client.get("/ask")).status_code == 503
        await database.execute(f"ALTER ROLE {role} CONNECTION LIMIT 5")
        assert (await client.get("/ask")).status_code == 500
    await database.execute(f"DROP ROLE {role}")


async def test_the_pools_error_is_no_builtin_timeout_and_no_dbapi_error(database: Database) -> None:
    engine = create_async_engine(database.url(), pool_size=2, max_overflow=1, pool_timeout=0.1)
    try:
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(engine.connect())
            with pytest.raises(exc.TimeoutError) as raised:
                await engine.connect()
    finally:
        await engine.dispose()
    expected = "QueuePool limit of size 2 overflow 1 reached, connection timed out, timeout 0.10"
    assert expected in str(raised.value)
    assert not isinstance(raised.value, TimeoutError | exc.DBAPIError)


@pytest.mark.parametrize(("size", "overflow", "opened"), [(1, 1, 6), (2, 0, 2)])
async def test_a_connection_beyond_pool_size_is_closed_when_it_is_returned(
    database: Database, size: int, overflow: int, opened: int
) -> None:
    connects = 0

    def count(*_: object) -> None:
        nonlocal connects
        connects += 1

    engine = create_async_engine(database.url(), pool_size=size, max_overflow=overflow)
    event.listen(engine.sync_engine, "connect", count)
    try:
        for _ in range(5):
            async with engine.connect(), engine.connect():
                pass
    finally:
        await engine.dispose()
    assert connects == opened


@pytest.mark.parametrize(
    "unlimited",
    [
        {"max_overflow": -1, "pool_size": 1, "pool_timeout": 0.1},
        {"pool_size": 0, "pool_timeout": 0.1},
        {"poolclass": NullPool},
    ],
)
async def test_some_values_mean_no_limit(database: Database, unlimited: dict[str, Any]) -> None:
    engine = create_async_engine(database.url(), **unlimited)
    try:
        async with AsyncExitStack() as held:
            for _ in range(20):
                await held.enter_async_context(engine.connect())
            assert database.connections() == 20
    finally:
        await engine.dispose()


def test_null_pool_refuses_what_bounds_a_pool(database: Database) -> None:
    for name in ("pool_size", "max_overflow", "pool_timeout"):
        settings: dict[str, Any] = {name: 1}
        with pytest.raises(TypeError, match=name):
            create_async_engine(database.url(), poolclass=NullPool, **settings)
    create_async_engine(database.url(), poolclass=NullPool, pool_pre_ping=True, pool_recycle=240)


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """The host and port of a server that accepts and never answers."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(accept, HOST, port):
        yield f"{HOST}:{port}"


async def test_the_handler_answers_for_every_timeout_and_blames_no_database() -> None:
    block = RuleFile.load("pooling-database").block(correct=True)
    async with _silent() as address:
        module = block.run(url=f"postgresql+asyncpg://postgres@{address}/orders")
        app: FastAPI = module.app

        @app.get("/asyncio")
        async def own() -> None:
            async with asyncio.timeout(0):
                await asyncio.sleep(5)

        @app.get("/aiohttp")
        async def other() -> None:
            total = aiohttp.ClientTimeout(total=0.1)
            async with aiohttp.ClientSession(timeout=total) as session:
                await session.get(f"http://{address}")

        async with (
            serving(app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=20) as client,
        ):
            for path in ("/asyncio", "/aiohttp"):
                answer = await client.get(path)
                assert answer.status_code == 503
                assert "database" not in answer.text.lower()


async def test_the_time_to_open_a_connection_is_bounded_by_the_driver_only() -> None:
    async def connect(address: str, **connect_args: object) -> None:
        url = f"postgresql+asyncpg://postgres@{address}/orders"
        engine = create_async_engine(url, pool_timeout=0.1, connect_args={**connect_args})
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        finally:
            await engine.dispose()

    async with _silent() as address:
        unbounded = asyncio.ensure_future(connect(address))
        await asyncio.wait({unbounded}, timeout=1)
        assert not unbounded.done()
        unbounded.cancel()
        await asyncio.wait({unbounded})
        async with asyncio.timeout(10) as limit:
            with pytest.raises(TimeoutError) as raised:
                await connect(address, timeout=0.3)
        assert not limit.expired()
        assert type(raised.value) is TimeoutError
