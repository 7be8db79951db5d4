"""A migration breaks the cached statements whose result it changes: SELECT * at any new column."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Enum, String, insert, select, text
from sqlalchemy.exc import DBAPIError, NotSupportedError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

ADD = "ALTER TABLE orders ADD COLUMN note text"
WIDEN = "ALTER TABLE orders ALTER COLUMN number TYPE varchar(100)"
NO_CACHE: dict[str, dict[str, Any]] = {
    "asyncpg": {"prepared_statement_cache_size": 0},
    "psycopg": {"prepare_threshold": None},
}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(50))
    state: Mapped[str] = mapped_column(Enum("open", "closed", name="state"))


Run = Callable[[AsyncSession], Awaitable[Any]]


@asynccontextmanager
async def _engine(
    database: Database, driver: str = "asyncpg", **options: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine, over a database with an open order and a closed one."""
    async with engine_with(Base, database.url(driver), pool_size=3, **options) as engine:
        async with async_sessionmaker(engine).begin() as session:
            session.add(Order(number="b", state="closed"))
            session.add(Order(number="a", state="open"))
        yield engine


async def _failures(engine: AsyncEngine, run: Run, database: Database, migration: str) -> list[Any]:
    """What each of three connections raises, or None, at the first run after a migration."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(AsyncSession(engine)) for _ in range(3)]
        for session in sessions:
            await session.connection()  # so that each has one of its own
        for session in sessions:
            for _ in range(7):
                await run(session)
        for session in sessions:
            await session.commit()  # psycopg forgets its statements at a rollback
        await database.execute(migration)
        failures: list[Any] = []
        for session in sessions:
            await session.connection()  # before any of them is given back
        for session in sessions:
            try:
                await run(session)
                failures.append(None)
            except DBAPIError as error:
                failures.append(error)
        return failures


async def _named(session: AsyncSession) -> None:
    await session.execute(select(Order.id, Order.number, Order.state))


async def _returning(session: AsyncSession) -> None:
    await session.execute(insert(Order).values(number="c", state="closed").returning(Order))


async def _returning_all(session: AsyncSession) -> None:
    await session.execute(
        text("INSERT INTO orders (number, state) VALUES ('c', 'closed') RETURNING *")
    )


def _work(block: Block) -> Run:
    given: dict[str, Any] = {"Order": Order} if "Order" in block.given else {}
    run: Run = block.run(**given).open_orders
    return run


@pytest.mark.parametrize(("driver", "failing"), [("asyncpg", 1), ("psycopg", 3)])
async def test_incorrect_fails_after_a_column_was_added(
    incorrect: Block, database: Database, driver: str, failing: int, witness: Witness
) -> None:
    async with _engine(database, driver) as engine:
        failures = await _failures(engine, _work(incorrect), database, ADD)
    assert [type(each) for each in failures] == (
        [NotSupportedError] * failing + [type(None)] * (3 - failing)
    )
    witness.saw(failures[0])
    witness.observed(
        incorrect="after ADD COLUMN 1 of 3 connections fails with asyncpg, 3 of 3 with psycopg"
    )


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_does_not(
    correct: Block, database: Database, driver: str, witness: Witness
) -> None:
    run = _work(correct)
    async with _engine(database, driver) as engine:
        assert await _failures(engine, run, database, ADD) == [None] * 3
        async with AsyncSession(engine) as session:
            session.add(Order(number="c", state="open"))
            await session.flush()
            await session.execute(text("UPDATE orders SET number = 'a2' WHERE id = 2"))
            assert [dict(row) for row in await run(session)] == [
                {"id": 2, "number": "a2"},
                {"id": 3, "number": "c"},
            ]
    witness.observed(correct="after ADD COLUMN none of 3 connections fails")


@pytest.mark.parametrize(
    ("run", "migration", "failing"),
    [
        (_returning_all, ADD, 1),
        (_returning, ADD, 0),
        (_named, WIDEN, 1),
        (_named, "ALTER TYPE state ADD VALUE 'sent'", 0),
        (_named, "CREATE INDEX ON orders (number)", 0),
        (_named, "ALTER TABLE orders ALTER COLUMN number DROP NOT NULL", 0),
    ],
)
async def test_what_breaks_a_cached_statement(
    database: Database, run: Run, migration: str, failing: int
) -> None:
    async with _engine(database) as engine:
        failures = await _failures(engine, run, database, migration)
    assert sum(each is not None for each in failures) == failing


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_without_a_cache_no_change_of_type_breaks_it(database: Database, driver: str) -> None:
    async with _engine(database, driver, connect_args=NO_CACHE[driver]) as engine:
        assert await _failures(engine, _named, database, WIDEN) == [None] * 3


async def test_a_column_that_is_gone_fails_at_every_run(database: Database) -> None:
    gone = "ALTER TABLE orders DROP COLUMN state"
    async with _engine(database, connect_args=NO_CACHE["asyncpg"]) as engine:
        failures = await _failures(engine, _named, database, gone)
    assert ["does not exist" in str(each) for each in failures] == [True] * 3


async def test_the_transaction_run_anew_succeeds(database: Database) -> None:
    async def work(session: AsyncSession) -> None:
        session.add(Order(number="new", state="open"))
        await session.flush()
        await _named(session)

    async with _engine(database) as engine:
        sessions = async_sessionmaker(engine)
        async with sessions.begin() as session:
            await _named(session)
        await database.execute(WIDEN)
        with pytest.raises(NotSupportedError):
            async with sessions.begin() as session:
                await work(session)
        count = "SELECT count(*) FROM orders WHERE number = 'new'"
        assert await database.fetchval(count) == 0
        async with sessions.begin() as session:
            await work(session)
        assert await database.fetchval(count) == 1


async def test_an_enum_that_was_made_anew_is_another_type(
    database: Database, witness: Witness
) -> None:
    async def make_anew(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)

    async with _engine(database) as engine, engine_with(Base, database.url()) as other:

        async def insert_one() -> None:
            async with async_sessionmaker(engine).begin() as session:
                await _returning(session)

        await insert_one()
        await make_anew(engine)  # SQLAlchemy drops the cache of the engine that sends DDL
        await insert_one()
        await make_anew(other)
        with pytest.raises(DBAPIError) as raised:
            await insert_one()
        witness.saw(raised.value)
        await make_anew(other)
        await engine.dispose()
        await insert_one()
