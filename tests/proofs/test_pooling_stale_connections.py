"""Connections that died or fell silent in the pool fail requests, unless they are replaced."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from tests.proofs.harness import ROOT, Block, RuleFile, Witness
from tests.proofs.network import Network, hurried
from tests.services import Database, free_port
from tests.services.process import HOST

KILL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
DRIVERS = ("asyncpg", "psycopg")
POOL = 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return hurried(monkeypatch)


def _with_psycopg(block: Block) -> Block:
    """The block with the arguments for psycopg that the rule names, where it has some."""
    text = (ROOT / block.path).read_text("utf-8")
    (theirs,) = re.findall(r"`(connect_args=\{\"connect_timeout.*\})`", text)
    ours = re.compile(r"connect_args=\{.*?\n    \}", re.DOTALL)
    return replace(block, code=ours.sub(theirs, block.code))


async def _one(engine: AsyncEngine) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT 7"))).scalar_one()


async def _within(seconds: float, work: Coroutine[Any, Any, Any], network: Network) -> Any:
    """Its result or error; None where it has not ended in time."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        network.end_connections()  # what hangs on them ends now
        await asyncio.wait({task}, timeout=10)
    outcome = task.exception() or task.result()
    return outcome if done else None


async def _all_used(engine: AsyncEngine) -> list[Any]:
    """Use each connection of the pool once; give the drivers' connections."""
    opened = [await engine.connect() for _ in range(POOL)]
    connections = [(await each.get_raw_connection()).driver_connection for each in opened]
    for each in opened:
        await each.close()
    return connections


def _asks(sent: bytes) -> bool:
    """Whether it asks the server something, by a ping or a statement, and does not only leave."""
    return sent not in (b"", b"X\0\0\0\4")


@asynccontextmanager
async def _running(block: Block, url: str, database: Database) -> AsyncIterator[Any]:
    await database.execute("CREATE TABLE IF NOT EXISTS orders (id int)")
    module = block.run(url=url)
    try:
        yield module
    finally:
        await module.engine.dispose()


async def _after_their_death(block: Block, database: Database, driver: str) -> list[Any]:
    """What as many requests as the pool has connections get once the server has ended these."""
    block = block if driver == "asyncpg" else _with_psycopg(block)
    async with _running(block, database.url(driver), database) as module:
        connections = await _all_used(module.engine)
        assert len(await database.fetch(KILL, database.name)) == POOL
        async with asyncio.timeout(10):
            # asyncpg sees the end by itself; psycopg only with the next statement.
            while driver == "asyncpg" and not all(each.is_closed() for each in connections):
                await asyncio.sleep(0.01)
            requests = (module.count_orders() for _ in range(POOL))
            return await asyncio.gather(*requests, return_exceptions=True)


async def _silent(
    block: Block, database: Database, *, age: float, seconds: float
) -> tuple[Any, bytes]:
    """What a request gets whose pooled connection leads nowhere; `age` is that connection's.

    Gives also what was sent over it.
    """
    network = Network(database)
    async with _running(block, network.url(), database) as module, network:
        records: list[Any] = []
        event.listen(module.engine.sync_engine, "connect", lambda _, record: records.append(record))
        assert await module.count_orders() == 0
        network.fall_silent()
        records[0].starttime -= age
        return await _within(seconds, module.count_orders(), network), network.dropped


@pytest.mark.parametrize(("driver", "failed"), [("asyncpg", 1), ("psycopg", POOL)])
async def test_incorrect_fails_requests_after_the_server_ended_its_connections(
    incorrect: Block, database: Database, witness: Witness, driver: str, failed: int
) -> None:
    results = await _after_their_death(incorrect, database, driver)
    errors = [each for each in results if isinstance(each, exc.DBAPIError)]
    assert [each.connection_invalidated for each in errors] == [True] * failed
    assert [each for each in results if each not in errors] == [0] * (POOL - failed)
    witness.saw(*errors)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_correct_replaces_connections_that_the_server_ended(
    correct: Block, database: Database, witness: Witness, driver: str
) -> None:
    assert await _after_their_death(correct, database, driver) == [0] * POOL


async def test_incorrect_hangs_on_a_connection_that_fell_silent(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    answer, sent = await _silent(incorrect, database, age=3600, seconds=1)
    assert answer is None
    assert _asks(sent)
    witness.observed(
        incorrect="3 dead connections: 1 of 3 requests failed (asyncpg), 3 of 3 (psycopg); "
        "a silent one: no answer in 1 s"
    )


async def test_correct_replaces_a_connection_by_its_age_without_asking_it(
    correct: Block, database: Database, witness: Witness
) -> None:
    answer, sent = await _silent(correct, database, age=181, seconds=10)
    assert answer == 0
    assert not _asks(sent)
    _, sent = await _silent(correct, database, age=178, seconds=1)
    assert _asks(sent)
    witness.observed(
        correct="3 dead connections: 3 of 3 requests answered; a silent one of 181 s: answered; "
        "a younger one: TimeoutError after command_timeout, the next request answered"
    )


async def test_correct_ends_the_wait_on_a_young_connection_that_fell_silent(
    correct: Block, database: Database, asked: dict[str, Any]
) -> None:
    network = Network(database)
    async with _running(correct, network.url(), database) as module, network:
        await _all_used(module.engine)
        network.fall_silent()
        answers = [await _within(10, module.count_orders(), network) for _ in range(POOL + 1)]
    assert [type(each) for each in answers[:POOL]] == [TimeoutError] * POOL
    assert answers[POOL] == 0
    assert asked["command_timeout"] == 5


async def test_the_ping_itself_hangs_unless_statements_have_a_timeout(database: Database) -> None:
    for connect_args, expected in (({}, None), ({"command_timeout": 0.3}, TimeoutError)):
        network = Network(database)
        engine = create_async_engine(
            network.url(), pool_size=1, pool_pre_ping=True, connect_args=connect_args
        )
        try:
            async with network:
                assert await _one(engine) == 7
                network.fall_silent()
                result = await _within(10 if connect_args else 1, _one(engine), network)
                assert (result if result is None else type(result)) == expected
                assert await _within(10, _one(engine), network) == 7
        finally:
            await engine.dispose()


async def test_correct_bounds_the_opening_of_a_connection(
    correct: Block, database: Database, asked: dict[str, Any]
) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    port = free_port()
    module = correct.run(url=f"postgresql+asyncpg://postgres@{HOST}:{port}/orders")
    async with await asyncio.start_server(accept, HOST, port), asyncio.timeout(10) as limit:
        with pytest.raises(TimeoutError):
            await module.count_orders()
    assert not limit.expired()
    assert asked["timeout"] == 5


async def test_correct_ends_a_statement_that_takes_too_long(
    correct: Block, database: Database, asked: dict[str, Any]
) -> None:
    async with _running(correct, database.url(), database) as module:
        assert await module.count_orders() == 0
        async with asyncio.timeout(10) as limit, module.engine.connect() as connection:
            with pytest.raises(TimeoutError):
                await connection.execute(text("SELECT pg_sleep(20)"))
        assert not limit.expired()


async def test_correct_makes_the_server_keep_an_idle_connection_alive(
    correct: Block, database: Database
) -> None:
    async with (
        _running(correct, database.url(), database) as module,
        module.engine.connect() as connection,
    ):
        assert await connection.scalar(text("SHOW tcp_keepalives_idle")) == "60"


async def test_psycopgs_names_reach_its_socket(database: Database) -> None:
    block = _with_psycopg(RuleFile.load("pooling-stale-connections").block(correct=True))
    async with _running(block, database.url("psycopg"), database) as module:
        (theirs, *_) = await _all_used(module.engine)
        with socket.socket(fileno=theirs.fileno()) as ours:
            idle = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            unacknowledged = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            ours.detach()
        given = theirs.info.get_parameters()["connect_timeout"]
        assert (idle, unacknowledged, given) == (60, 5000, "5")


@pytest.mark.parametrize(("key", "rows"), [("", 2), ("PRIMARY KEY", 1)])
async def test_a_retry_stores_twice_what_was_committed_unless_a_key_refuses_it(
    database: Database, witness: Witness, key: str, rows: int
) -> None:
    async with Network(database) as network:
        engine = create_async_engine(network.url(), pool_pre_ping=True)
        insert = text("INSERT INTO paid VALUES (7)")
        await database.execute(f"CREATE TABLE paid (order_id int {key})")
        try:
            await _one(engine)
            network.lose_answer_to = b"COMMIT;"
            with pytest.raises(exc.DBAPIError) as raised:
                async with engine.begin() as connection:
                    await connection.execute(insert)
            assert raised.value.connection_invalidated
            witness.saw(raised.value)
            with suppress(exc.IntegrityError):
                async with engine.begin() as connection:
                    await connection.execute(insert)
        finally:
            await engine.dispose()
    assert await database.fetchval("SELECT count(*) FROM paid") == rows


async def test_a_death_within_a_transaction_is_not_cured(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _running(correct, database.url(), database) as module:
        async with AsyncSession(module.engine) as session:
            await session.execute(text("SELECT 7"))
            await database.fetch(KILL, database.name)
            with pytest.raises(exc.DBAPIError):
                await session.execute(text("SELECT 7"))
            with pytest.raises(exc.PendingRollbackError) as raised:
                await session.execute(text("SELECT 7"))
            await session.rollback()
            assert await session.scalar(text("SELECT 7")) == 7
        assert module.engine.pool._pre_ping
    witness.saw(raised.value)


async def test_a_server_that_is_down_raises_what_the_driver_raises(
    database: Database, witness: Witness
) -> None:
    kinds = {}
    for driver in DRIVERS:
        async with Network(database) as network:
            engine = create_async_engine(network.url(driver), pool_pre_ping=True)
            try:
                await _one(engine)
                await network.go_down()
                with pytest.raises((OSError, exc.DBAPIError)) as raised:
                    await _one(engine)
                kinds[driver] = type(raised.value)
                witness.saw(raised.value)
            finally:
                await engine.dispose()
    assert kinds == {"asyncpg": ConnectionRefusedError, "psycopg": exc.OperationalError}


async def test_a_ping_costs_round_trips(database: Database) -> None:
    costs = {}
    for driver in DRIVERS:
        requests = {}
        for pre_ping in (False, True):
            async with Network(database) as network:
                engine = create_async_engine(network.url(driver), pool_pre_ping=pre_ping)
                try:
                    for _ in range(3):  # the first ones also prepare statements
                        before = network.requests
                        await _one(engine)
                    requests[pre_ping] = network.requests - before
                finally:
                    await engine.dispose()
        costs[driver] = requests[True] - requests[False]
    assert costs == {"asyncpg": 1 if sqlalchemy.__version__ == "2.0.0" else 3, "psycopg": 1}


async def test_recycling_is_off_by_default_and_counts_from_the_connect(database: Database) -> None:
    assert create_async_engine(database.url()).pool._recycle == -1
    engine = create_async_engine(database.url(), pool_recycle=600)
    records: list[Any] = []
    event.listen(engine.sync_engine, "connect", lambda _, record: records.append(record))
    try:
        await _one(engine)
        records[0].starttime -= 500
        await _one(engine)
        assert len(records) == 1
        records[0].starttime -= 101  # it was in use a moment ago
        await _one(engine)
        assert len(records) == 2
    finally:
        await engine.dispose()
