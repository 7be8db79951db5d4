"""What a relation costs in statements, by how it is loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy.ext.asyncio
from sqlalchemy import ForeignKey, event, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship
from sqlalchemy.orm import selectinload as selectin

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

AsyncAttrs: Any = getattr(sqlalchemy.ext.asyncio, "AsyncAttrs", None)


@dataclass
class Counted:
    """An engine, and the statements that it sent to the database."""

    engine: AsyncEngine
    statements: list[str] = field(default_factory=list)


@asynccontextmanager
async def _orders(database: Database, base: Any, number: int) -> AsyncIterator[Counted]:
    """So many orders with two lines each, of prices 1 and 2; their insertion is not counted."""
    async with engine_with(base, database.url()) as engine:
        counted = Counted(engine)
        async with engine.begin() as connection:
            rows = {"number": number}
            await connection.execute(
                text("INSERT INTO orders (id) SELECT generate_series(1, :number)"), rows
            )
            await connection.execute(
                text(
                    "INSERT INTO lines (order_id, price) SELECT orders.id, price"
                    " FROM orders, generate_series(1, 2) AS price"
                )
            )
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))  # the pool is warm

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def _count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            counted.statements.append(statement)

        yield counted


def _module(block: Block, factory: Any = None) -> Any:
    """The block with a declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return block.run(Base=Base, SessionFactory=factory)


async def _total(block: Block, database: Database, number: int) -> tuple[dict[int, int], int]:
    """The totals of so many orders, and the statements that it took to find them."""
    module = _module(block)
    async with _orders(database, module.Base, number) as counted:
        module.SessionFactory = async_sessionmaker(counted.engine)
        totals = await module.order_totals()
    return totals, len(counted.statements)


async def test_incorrect_sends_a_statement_for_each_order(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    totals, statements = await _total(incorrect, database, 100)
    assert (totals, statements) == (dict.fromkeys(range(1, 101), 3), 101)
    witness.observed(incorrect="100 orders: 101 statements")


async def test_correct_sends_few_statements_however_many_orders_there_are(
    correct: Block, database: Database
) -> None:
    """As any right answer does, by a join or a second query."""
    totals, statements = await _total(correct, database, 100)
    assert totals == dict.fromkeys(range(1, 101), 3)
    assert statements < 5


async def test_correct_sends_two_statements(
    correct: Block, database: Database, witness: Witness
) -> None:
    totals, statements = await _total(correct, database, 100)
    assert (totals, statements) == (dict.fromkeys(range(1, 101), 3), 2)
    witness.observed(correct="100 orders: 2 statements")


async def test_correct_names_the_relation_that_was_not_loaded(
    correct: Block, database: Database, witness: Witness
) -> None:
    module = _module(correct)
    async with (
        _orders(database, module.Base, 1) as counted,
        AsyncSession(counted.engine) as session,
    ):
        order = (await session.scalars(select(module.Order))).one()
        with pytest.raises(InvalidRequestError, match="lazy='raise'") as caught:
            _ = order.lines
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            order.lines.append(module.Line(price=7))
        session.add(module.Line(order_id=order.id, price=7))
        await session.commit()
    witness.saw(caught.value)
    assert await database.fetchval("SELECT sum(price) FROM lines WHERE order_id = 1") == 1 + 2 + 7


async def test_correct_maps_an_index_and_gives_its_connection_back_after_an_error(
    correct: Block, database: Database
) -> None:
    module = _module(correct)
    assert module.Order.lines.property.lazy == "raise"
    assert [index.columns.keys() for index in module.Line.__table__.indexes] == [["order_id"]]
    async with _orders(database, module.Base, 1) as counted:
        module.SessionFactory = async_sessionmaker(counted.engine)
        await database.execute("ALTER TABLE lines RENAME COLUMN price TO amount")
        with pytest.raises(DBAPIError):
            await module.order_totals()
        assert counted.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_delete_loads_the_collection_by_itself(database: Database) -> None:
    module = _module(RuleFile.load("sqlalchemy-relationships").block(correct=True))
    async with (
        _orders(database, module.Base, 1) as counted,
        AsyncSession(counted.engine) as session,
    ):
        await database.execute("ALTER TABLE lines ALTER order_id DROP NOT NULL")
        order = await session.get(module.Order, 1)
        await session.delete(order)
        await session.commit()
    rows = await database.fetch("SELECT order_id FROM lines")
    assert [row["order_id"] for row in rows] == [None, None]


class Base(*([AsyncAttrs] if AsyncAttrs else []), DeclarativeBase):  # type: ignore[misc]
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    price: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list[Line]] = relationship()
    strict_lines: Mapped[list[Line]] = relationship(lazy="raise", viewonly=True)


@pytest.mark.skipif(AsyncAttrs is None, reason="from SQLAlchemy 2.0.13")
async def test_awaitable_attrs_send_a_statement_for_each_order(database: Database) -> None:
    async with _orders(database, Base, 100) as counted, AsyncSession(counted.engine) as session:
        orders: list[Any] = list(await session.scalars(select(Order)))
        for order in orders:
            assert len(await order.awaitable_attrs.lines) == 2
        assert len(counted.statements) == 101
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            await orders[0].awaitable_attrs.strict_lines


async def test_joinedload_sends_one_and_needs_unique(database: Database, witness: Witness) -> None:
    query = select(Order).options(joinedload(Order.lines))
    async with _orders(database, Base, 100) as counted, AsyncSession(counted.engine) as session:
        orders = (await session.scalars(query)).unique().all()
        assert [len(order.lines) for order in orders] == [2] * 100
        assert len(counted.statements) == 1
        with pytest.raises(InvalidRequestError, match="unique") as caught:
            (await session.scalars(query)).all()
        witness.saw(caught.value)


async def test_selectinload_sends_one_for_each_500_parents(database: Database) -> None:
    query = select(Order).options(selectin(Order.lines))
    async with _orders(database, Base, 501) as counted, AsyncSession(counted.engine) as session:
        assert len((await session.scalars(query)).all()) == 501
        assert len(counted.statements) == 1 + 2
