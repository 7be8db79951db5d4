"""A commit inside a repository leaves half a unit of work; a flush leaves none."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import CheckConstraint, ForeignKey, event, func, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

FLUSHES_ALWAYS = not sqlalchemy.__version__.startswith("2.0.")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=func.lower("NEW"))


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(
        ForeignKey("orders.id", deferrable=True, initially="DEFERRED")
    )
    amount: Mapped[int]
    __table_args__ = (CheckConstraint("amount > 0"),)


async def _rows(database: Database) -> tuple[Any, Any]:
    """The orders and the payments in the database."""
    return (
        await database.fetchval("SELECT count(*) FROM orders"),
        await database.fetchval("SELECT count(*) FROM payments"),
    )


async def _check_out_badly(block: Block, database: Database) -> tuple[Any, Any]:
    """The rows of a checkout whose payment the database refuses."""
    module = block.run(Order=Order, Payment=Payment)
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        with pytest.raises(IntegrityError):
            await module.checkout(session, 0)
            await session.commit()
    return await _rows(database)


async def _check_out_well(block: Block, database: Database) -> tuple[Any, Any]:
    """The rows of a checkout in a transaction that the caller opens."""
    module = block.run(Order=Order, Payment=Payment)
    async with (
        engine_with(Base, database.url()) as engine,
        async_sessionmaker(engine).begin() as session,
    ):
        await module.checkout(session, 10)
    return await _rows(database)


async def test_incorrect_leaves_an_order_without_its_payment(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _check_out_badly(incorrect, database) == (1, 0)
    witness.observed(incorrect="the payment failed: 1 order and 0 payments stayed")


async def test_incorrect_ends_the_transaction_that_its_caller_opened(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await _check_out_well(incorrect, database)
    witness.saw(caught.value)
    assert await _rows(database) == (1, 0)


async def test_correct_leaves_neither(correct: Block, database: Database, witness: Witness) -> None:
    assert await _check_out_badly(correct, database) == (0, 0)
    witness.observed(correct="the payment failed: 0 orders and 0 payments stayed")


async def test_correct_leaves_the_transaction_to_its_caller(
    correct: Block, database: Database
) -> None:
    assert await _check_out_well(correct, database) == (1, 1)


async def test_correct_does_all_of_crud_in_one_transaction(
    correct: Block, database: Database
) -> None:
    module = correct.run(Order=Order, Payment=Payment)
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        orders = module.Repository(session, Order)
        created = [await orders.create(total=number) for number in range(4)]
        assert [order.id for order in created] == [1, 2, 3, 4]
        assert await orders.get(3) is created[2]
        assert await orders.get(99) is None
        assert await orders.update(created[1], total=77) is created[1]
        assert not session.dirty
        # PostgreSQL gives an updated row last unless it is asked for an order.
        assert list(await orders.page(limit=2, offset=0)) == created[:2]
        assert list(await orders.page(limit=2, offset=1)) == created[1:3]
        await orders.delete(created[0])
        assert not session.deleted
        assert list(await orders.page(limit=9, offset=0)) == created[1:]
        assert await _rows(database) == (0, 0)
        await session.commit()
    totals = await database.fetch("SELECT total FROM orders ORDER BY id")
    assert [row["total"] for row in totals] == [77, 2, 3]


async def test_correct_refuses_names_that_the_model_does_not_map(
    correct: Block, database: Database
) -> None:
    module = correct.run(Order=Order, Payment=Payment)
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        orders = module.Repository(session, Order)
        order = await orders.create(total=1)
        with pytest.raises(TypeError, match="totl"):
            await orders.create(totl=2)
        with pytest.raises(TypeError, match=r"^Order has no \['metadata', 'totl'\]$"):
            await orders.update(order, total=2, totl=2, metadata=2)
        assert order.total == 1
        order.totl = 2  # what setattr does
        assert not session.dirty


async def test_two_updates_from_the_same_read_count_as_one(
    correct: Block, database: Database
) -> None:
    module = correct.run(Order=Order, Payment=Payment)
    async with engine_with(Base, database.url()) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Order(total=1))
        async with AsyncSession(engine) as one, AsyncSession(engine) as other:
            read = [(each, await each.get(Order, 1)) for each in (one, other)]
            for session, order in read:
                assert order
                await module.Repository(session, Order).update(order, total=order.total + 1)
                await session.commit()
    assert await database.fetchval("SELECT total FROM orders") == 2


@pytest.mark.parametrize("query", [text("SELECT 1 FROM orders"), select(Order.__table__)])
async def test_only_sqlalchemy_2_1_flushes_before_every_statement(
    query: Any, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        session.add(Order(total=1))
        assert len((await session.execute(query)).all()) == (1 if FLUSHES_ALWAYS else 0)
        assert len((await session.execute(select(Order))).all()) == 1


async def test_a_deferred_constraint_passes_the_flush_and_fails_the_commit(
    database: Database,
) -> None:
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        session.add(Payment(order_id=99, amount=1))
        await session.flush()
        with pytest.raises(IntegrityError):
            await session.commit()


async def test_refresh_costs_a_statement_and_discards_what_is_pending(database: Database) -> None:
    statements = []
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def _count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        order = Order(total=1)
        session.add(order)
        await session.flush()
        assert (order.id, order.state) == (1, "new")
        assert len(statements) == 1
        order.total = 2
        await session.refresh(order)
        assert (order.total, len(statements)) == (1, 2)
