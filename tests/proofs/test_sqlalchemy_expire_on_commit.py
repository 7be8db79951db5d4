"""A commit expires what was loaded, unless told not to; and what that does not solve."""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, func, select, update
from sqlalchemy.exc import DBAPIError, InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload
from sqlalchemy.orm.exc import DetachedInstanceError

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    total: Mapped[int] = mapped_column(default=0)
    changed: Mapped[int] = mapped_column(default=1, onupdate=func.length("four"))
    lines: Mapped[list[Line]] = relationship()


class Invoice(Base):
    __tablename__ = "invoices"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    changed: Mapped[int] = mapped_column(default=1, onupdate=func.length("four"))


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    number: int


@contextmanager
def _raises(kind: type[Exception]) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect an error. SQLAlchemy 2.0 leaves a coroutine behind, which warns when it goes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(kind) as caught:
            yield caught
        traceback.clear_frames(caught.tb)
        gc.collect()


@asynccontextmanager
async def _kept(database: Database) -> AsyncIterator[AsyncSession]:
    """A session that does not expire on commit; in it, order 7 is the row with id 1."""
    async with engine_with(Base, database.url()) as engine:
        factory = async_sessionmaker(engine, expire_on_commit=False)
        async with factory.begin() as session:
            session.add(Order(number=7, lines=[Line()]))
        async with factory() as session:
            yield session


async def _rows(database: Database) -> Any:
    return await database.fetchval("SELECT count(*) FROM orders")


async def _detached(block: Block, engine: AsyncEngine) -> Order:
    """An order that was committed by a session that is closed."""
    module = block.run(engine=engine, Order=Order)
    order = Order(number=7)
    async with module.SessionFactory.begin() as session:
        session.add(order)
    return order


async def _validated(block: Block, engine: AsyncEngine) -> OrderOut:
    """The response model of an order that was committed in a session that is still open."""
    module = block.run(engine=engine, Order=Order)
    async with module.SessionFactory() as session:
        order = Order(number=7)
        session.add(order)
        await session.commit()
        return OrderOut.model_validate(order)


async def test_incorrect_raises_after_the_row_is_committed(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = incorrect.run(engine=engine, Order=Order)
        for rows in (1, 2):
            with _raises(MissingGreenlet) as caught:
                await module.place_order(7)
            witness.saw(caught.value)
            assert await _rows(database) == rows
    witness.observed(incorrect="one order: MissingGreenlet for the caller, 1 row in the database")


async def test_incorrect_breaks_a_response_model(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with engine_with(Base, database.url()) as engine:
        with _raises(ValueError) as caught:
            await _validated(incorrect, engine)
    witness.saw(caught.value)


async def test_incorrect_leaves_nothing_to_read_once_the_session_is_closed(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with engine_with(Base, database.url()) as engine:
        order = await _detached(incorrect, engine)
        with _raises(DetachedInstanceError) as caught:
            _ = order.number
    witness.saw(caught.value)


async def test_correct_reads_after_the_commit(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = correct.run(engine=engine, Order=Order)
        assert await module.place_order(7) == {"id": 1, "number": 7}
        assert await _rows(database) == 1
        with pytest.raises(DBAPIError):
            await module.place_order(2**40)
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert (await _validated(correct, engine)).number == 7
        assert (await _detached(correct, engine)).number == 7
    witness.observed(correct="one order: its id and number for the caller, 1 row in the database")


async def test_a_rollback_expires_all_the_same(database: Database) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        await session.rollback()
        with _raises(MissingGreenlet):
            _ = order.number
        await session.refresh(order)
        assert order.number == 7


async def test_what_a_rollback_took_back_cannot_be_refreshed(
    database: Database, witness: Witness
) -> None:
    async with _kept(database) as session:
        order = Order(number=8, lines=[])
        session.add(order)
        await session.flush()
        await session.rollback()
        with pytest.raises(InvalidRequestError, match="is not persistent") as caught:
            await session.refresh(order)
        witness.saw(caught.value)


async def test_a_savepoint_that_is_rolled_back_expires_what_was_flushed_in_it(
    database: Database,
) -> None:
    async with _kept(database) as session:
        session.add(Order(number=8))
        await session.flush()
        order, other = await session.scalars(select(Order).order_by(Order.id))
        with suppress(KeyError):
            async with session.begin_nested():
                order.total = 7
                await session.flush()
                raise KeyError
        with _raises(MissingGreenlet):
            _ = order.total
        assert other.total == 0
        await session.refresh(order)
        assert order.total == 0


async def test_a_lazy_relation_still_raises(database: Database) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        with _raises(MissingGreenlet):
            _ = order.lines
        session.expunge_all()
        order = (await session.scalars(select(Order).options(selectinload(Order.lines)))).one()
        await session.commit()
        assert len(order.lines) == 1


async def test_the_unset_collection_of_a_new_object_still_raises(database: Database) -> None:
    async with _kept(database) as session:
        unset, empty = Order(number=8), Order(number=9, lines=[])
        session.add_all([unset, empty])
        await session.flush()
        with _raises(MissingGreenlet):
            _ = unset.lines
        assert empty.lines == []


async def test_a_column_set_to_an_expression_still_raises(database: Database) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        order.total = Order.total + 1
        await session.flush()
        with _raises(MissingGreenlet):
            _ = order.total
        await session.refresh(order, ["total"])
        assert order.total == 1


async def test_an_update_with_an_expression_expires_the_object_that_is_held(
    database: Database,
) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        await session.execute(update(Order).values(total=func.abs(-5)))
        with _raises(MissingGreenlet):
            _ = order.total
        await session.refresh(order, ["total"])
        assert order.total == 5


async def test_a_column_that_the_database_sets_on_update_still_raises(database: Database) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        invoice = Invoice(number=1)
        session.add(invoice)
        await session.flush()
        order.number = invoice.number = 2
        await session.flush()
        with _raises(MissingGreenlet):
            _ = order.changed
        assert invoice.changed == 4


async def test_what_is_not_expired_is_stale(database: Database) -> None:
    async with _kept(database) as session:
        order = (await session.scalars(select(Order))).one()
        await session.commit()
        await database.execute("UPDATE orders SET total = 77")
        assert await session.get(Order, 1) is order
        assert order.total == 0
        assert (await session.scalars(select(Order))).one().total == 0
        fresh = await session.get(Order, 1, populate_existing=True)
        assert fresh is not None
        assert fresh.total == 77
