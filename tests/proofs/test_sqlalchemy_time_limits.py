"""What ends a statement, a wait for a lock, and a transaction that does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

IDLE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND datname = current_database()
"""
ACTIVE = """
    SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
    AND query LIKE 'SELECT pg_sleep%' AND datname = current_database()
"""
KILL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'
"""


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Give asyncpg a tenth of each limit; tells which limits it was given."""
    given: list[dict[str, str]] = []
    connect = asyncpg.connect

    async def connect_sooner(*args: Any, server_settings: dict[str, str], **kwargs: Any) -> Any:
        if "statement_timeout" in server_settings:
            given.append(server_settings)
            server_settings = {
                name: f"{int(value.removesuffix('s')) * 100}ms"
                for name, value in server_settings.items()
            }
        return await connect(*args, server_settings=server_settings, **kwargs)

    monkeypatch.setattr(asyncpg, "connect", connect_sooner)
    return given


@asynccontextmanager
async def _engine(url: str, limits: dict[str, str]) -> AsyncIterator[AsyncEngine]:
    settings: dict[str, Any] = {"server_settings": limits}
    if "+psycopg" in url:
        settings = {"options": " ".join(f"-c {name}={value}" for name, value in limits.items())}
    engine = create_async_engine(url, connect_args=settings)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def _table(database: Database) -> AsyncIterator[None]:
    async with engine_with(Base, database.url("psycopg")):
        await database.execute("INSERT INTO products VALUES (1, 10), (2, 10)")
        yield


async def _beside_one_that_does_nothing(
    block: Block, database: Database
) -> tuple[DBAPIError, BaseException | None, list[int]]:
    """What the second one gets, and how the first ends within 1.5 of 10 s; the rest of the stock."""
    module = block.run(Product=Product)
    async with asyncio.timeout(60), _table(database):
        engine = module.make_engine(database.url())
        factory = async_sessionmaker(engine)
        try:
            async with factory() as first:
                async with factory() as second:
                    await second.connection()  # so that it needs no time to connect below
                    await module.take(first, 1)
                    with pytest.raises(DBAPIError) as caught:
                        await module.take(second, 1)
                for _ in range(150):
                    if not await database.fetchval(IDLE):
                        break
                    await asyncio.sleep(0.01)
                ended = None
                try:
                    await first.commit()
                except DBAPIError as error:
                    ended = error
            async with factory.begin() as third:
                await module.take(third, 1)
        finally:
            await engine.dispose()
    rows = await database.fetch("SELECT stock FROM products ORDER BY id")
    return caught.value, ended, [row["stock"] for row in rows]


def _state(error: DBAPIError) -> Any:
    return getattr(error.orig, "sqlstate", None)


async def test_incorrect_leaves_the_row_locked(
    incorrect: Block, database: Database, witness: Witness, told: list[dict[str, str]]
) -> None:
    caught, ended, stock = await _beside_one_that_does_nothing(incorrect, database)
    assert (_state(caught), ended, stock) == ("57014", None, [8, 10])
    witness.saw(caught)
    witness.observed(
        incorrect="limits divided by ten, a transaction that does nothing: another one gets "
        "57014, and the row is still locked after 1.5 s"
    )


async def test_correct_ends_the_transaction_that_does_nothing(
    correct: Block, database: Database, witness: Witness, told: list[dict[str, str]]
) -> None:
    caught, ended, stock = await _beside_one_that_does_nothing(correct, database)
    assert (_state(caught), stock) == ("55P03", [9, 10])
    assert isinstance(ended, DBAPIError)
    assert ended.connection_invalidated
    witness.saw(caught, ended)
    limits = {
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "10s",
    }
    assert told
    assert all(each == limits for each in told)
    witness.observed(
        correct="limits divided by ten, a transaction that does nothing: another one gets "
        "55P03, the first one is ended, and a second try changes the row"
    )


async def test_correct_ends_a_slow_statement_and_replaces_a_connection_that_ended(
    correct: Block, database: Database, told: list[dict[str, str]]
) -> None:
    engine = correct.run(Product=Product).make_engine(database.url())
    try:
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError) as caught:
                await connection.execute(text("SELECT pg_sleep(20)"))
        assert _state(caught.value) == "57014"
        await database.fetch(KILL)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        assert [each["lock_timeout"] for each in told] == ["2s", "2s"]
    finally:
        await engine.dispose()


async def test_what_psycopg_says(database: Database, witness: Witness) -> None:
    limits = {"lock_timeout": "100ms", "idle_in_transaction_session_timeout": "500ms"}
    change = text("UPDATE products SET stock = 7")
    async with (
        _table(database),
        _engine(database.url("psycopg"), limits) as engine,
        engine.connect() as first,
        engine.connect() as second,
    ):
        await first.execute(change)
        with pytest.raises(DBAPIError) as locked:
            await second.execute(change)
        await second.rollback()
        while await database.fetchval(IDLE):
            await asyncio.sleep(0.01)
        with pytest.raises(DBAPIError) as ended:
            await first.execute(change)
    witness.saw(locked.value, ended.value)
    assert _state(locked.value) == "55P03"
    assert ended.value.connection_invalidated


@pytest.mark.parametrize("local", [True, False])
async def test_set_local_ends_with_the_transaction(database: Database, local: bool) -> None:
    limits = {"statement_timeout": "5s"}
    async with _engine(database.url(), limits) as engine:
        async with engine.begin() as connection:
            await connection.execute(
                text(f"SET {'LOCAL' if local else ''} statement_timeout = '60s'")
            )
            assert await connection.scalar(text("SHOW statement_timeout")) == "1min"
        async with engine.begin() as connection:
            shown = await connection.scalar(text("SHOW statement_timeout"))
    assert shown == ("5s" if local else "1min")


@pytest.mark.parametrize("command_timeout", [0.4, None])
async def test_the_command_timeout_of_asyncpg_ends_a_longer_statement(
    database: Database, command_timeout: float | None
) -> None:
    """As where the engine of pooling-database is given these limits."""
    settings = {"statement_timeout": "200ms"}
    engine = create_async_engine(
        database.url(),
        connect_args={"server_settings": settings, "command_timeout": command_timeout},
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = '60s'"))
            slow = connection.execute(text("SELECT pg_sleep(1.2)"))
            if command_timeout is None:
                await slow
            else:
                with pytest.raises(TimeoutError):
                    await slow
    finally:
        await engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_cancelled_wait_ends_the_query_with_new_releases(
    database: Database, driver: str
) -> None:
    async with _engine(database.url(driver), {"statement_timeout": "5s"}) as engine:

        async def ask() -> None:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(4)"))

        task = asyncio.create_task(ask())
        while not await database.fetchval(ACTIVE):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        if driver == "asyncpg" and sqlalchemy.__version__ == "2.0.0":
            assert await database.fetchval(ACTIVE) == 1
        else:
            async with asyncio.timeout(2):
                while await database.fetchval(ACTIVE):
                    await asyncio.sleep(0.01)


async def test_only_newer_servers_limit_a_whole_transaction(database: Database) -> None:
    version = int(await database.fetchval("SHOW server_version_num"))
    limits = {"statement_timeout": "5s"}

    async def short_statements(url: str, **more: str) -> None:
        async with _engine(url, {**limits, **more}) as engine, engine.begin() as connection:
            for _ in range(20):
                await connection.execute(text("SELECT pg_sleep(0.05)"))

    url = database.url("psycopg")  # asyncpg's message depends on what it does when it is told
    await short_statements(url)
    with pytest.raises(DBAPIError) as caught:
        await short_statements(url, transaction_timeout="300ms")
    if version >= 170000:
        # The server's message is lost where it ends the connection between two statements.
        assert caught.value.connection_invalidated
    else:
        told = 'unrecognized configuration parameter "transaction_timeout"'
        assert told in str(caught.value)
