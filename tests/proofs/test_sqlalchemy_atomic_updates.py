"""Ten increments that overlap are ten only where the database adds or the row is locked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

TEN = 10
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"

Factory = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Audit(Base):
    __tablename__ = "audits"
    id: Mapped[int] = mapped_column(primary_key=True)


@asynccontextmanager
async def _products(database: Database) -> AsyncIterator[Factory]:
    """Sessions on a database with one product of either kind, whose stock is 0."""
    async with engine_with(Base, database.url(), pool_size=TEN + 2) as engine:
        factory = async_sessionmaker(engine, expire_on_commit=False)
        async with factory.begin() as session:
            session.add_all([Product(id=1, stock=0), Versioned(id=1, stock=0)])
        yield factory


async def _stock(database: Database, table: str = "products") -> Any:
    return await database.fetchval(f"SELECT stock FROM {table} WHERE id = 1")


async def _ten_at_once(
    database: Database, factory: Factory, increment: Callable[[int], Awaitable[Any]]
) -> list[Any]:
    """Ten increments that overlap: each has come to where it needs the row before one gets it."""
    async with asyncio.timeout(30):
        async with factory.begin() as session:
            await session.execute(select(Product).with_for_update())
            tasks = [asyncio.ensure_future(increment(1)) for _ in range(TEN)]
            while await database.fetchval(WAITING, database.name) < TEN:
                await asyncio.sleep(0.01)
        return await asyncio.gather(*tasks)


async def test_incorrect_counts_ten_increments_as_one(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _products(database) as factory:
        module = incorrect.run(SessionFactory=factory, Product=Product)
        assert await _ten_at_once(database, factory, module.add_stock) == [1] * TEN
    assert await _stock(database) == 1
    witness.observed(incorrect="10 overlapping increments: value 1")


async def test_correct_counts_ten(correct: Block, database: Database, witness: Witness) -> None:
    async with _products(database) as factory:
        await database.execute("INSERT INTO products VALUES (2, 0)")
        module = correct.run(SessionFactory=factory, Product=Product)
        with pytest.raises(NoResultFound):
            await module.add_stock(99)
        counted = await _ten_at_once(database, factory, module.add_stock)
    assert sorted(counted) == list(range(1, TEN + 1))
    assert await _stock(database) == TEN
    assert await database.fetchval("SELECT stock FROM products WHERE id = 2") == 0
    witness.observed(correct="10 overlapping increments: value 10")


async def test_a_condition_in_the_statement_gives_no_row(database: Database) -> None:
    sold = update(Product).where(Product.stock > 0).values(stock=Product.stock - 1)
    query = sold.returning(Product.stock)
    async with _products(database) as factory, factory.begin() as session:
        assert (await session.scalars(query)).one_or_none() is None
        with pytest.raises(NoResultFound):
            (await session.scalars(query)).one()


async def test_an_object_that_is_held_shows_its_own_value_plus_1(database: Database) -> None:
    async with _products(database) as factory, factory.begin() as session:
        product = await session.get(Product, 1)
        assert product
        await database.execute("UPDATE products SET stock = 5")
        query = update(Product).values(stock=Product.stock + 1).returning(Product.stock)
        assert (await session.scalars(query)).one() == 6
        assert product.stock == 1
        await session.refresh(product)
        assert product.stock == 6


@pytest.mark.parametrize("populate", [True, False])
async def test_a_lock_helps_where_the_value_is_read_again(
    database: Database, populate: bool
) -> None:
    query = select(Product).with_for_update()
    if populate:
        query = query.execution_options(populate_existing=True)
    async with _products(database) as factory:

        async def increment(product_id: int) -> None:
            async with factory.begin() as session:
                held = await session.get(Product, product_id)
                product = (await session.scalars(query)).one()
                assert product is held
                product.stock += 1

        await _ten_at_once(database, factory, increment)
    assert await _stock(database) == (TEN if populate else 1)


async def test_a_lock_in_the_first_read_needs_nothing_else(database: Database) -> None:
    async with _products(database) as factory:

        async def increment(product_id: int) -> None:
            async with factory.begin() as session:
                product = (await session.scalars(select(Product).with_for_update())).one()
                product.stock += 1

        await _ten_at_once(database, factory, increment)
    assert await _stock(database) == TEN


async def test_a_version_column_refuses_the_second_writer(
    database: Database, witness: Witness
) -> None:
    async with _products(database) as factory, factory() as session, factory() as other:
        for each in (session, other):
            (await each.scalars(select(Versioned))).one().stock += 1
        await session.flush()
        await session.commit()
        with pytest.raises(StaleDataError) as caught:
            await other.flush()
    witness.saw(caught.value)
    assert await _stock(database, "versioned") == 1


async def _fail_to_add(database: Database, session: AsyncSession) -> DBAPIError:
    """Insert, then update a row that somebody else has changed since."""
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.add(Audit(id=1))
    await session.flush()
    await database.execute("UPDATE products SET stock = stock + 1")
    with pytest.raises(DBAPIError) as caught:
        await session.execute(update(Product).values(stock=Product.stock + 1))
    return caught.value


async def test_a_retry_of_the_statement_alone_loses_what_came_before(
    database: Database, witness: Witness
) -> None:
    async with _products(database) as factory, factory() as session:
        error = await _fail_to_add(database, session)
        witness.saw(error)
        assert getattr(error.orig, "sqlstate", None) == "40001"
        await session.rollback()
        await session.execute(update(Product).values(stock=Product.stock + 1))
        await session.commit()
    assert await _stock(database) == 2
    assert await database.fetchval("SELECT count(*) FROM audits") == 0


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_both_drivers_give_the_sqlstate(database: Database, driver: str) -> None:
    async with engine_with(Base, database.url(driver)) as engine, engine.connect() as connection:
        raised = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$"
        with pytest.raises(DBAPIError) as caught:
            await connection.exec_driver_sql(raised)
        assert getattr(caught.value.orig, "sqlstate", None) == "40P01"


async def test_a_retry_of_the_transaction_loses_nothing(database: Database) -> None:
    async with _products(database) as factory:
        async with factory() as session:
            await _fail_to_add(database, session)
        async with factory.begin() as session:
            session.add(Audit(id=1))
            await session.execute(update(Product).values(stock=Product.stock + 1))
    assert await _stock(database) == 2
    assert await database.fetchval("SELECT count(*) FROM audits") == 1
