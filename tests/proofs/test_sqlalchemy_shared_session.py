"""Two tasks in one session break the call, and with asyncpg the pooled connection too."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IllegalStateChangeError, InvalidRequestError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.asyncio import async_sessionmaker as sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

LATER = 20


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


@dataclass
class Outcome:
    """What one call gave or raised, and what later requests, each in its own session, raised."""

    first: str | Exception
    later: list[Exception]


async def _place(block: Block, url: str, **options: Any) -> Outcome:
    """Place one order, then run 20 later requests."""
    async with engine_with(Base, url, **options) as engine:
        factory = sessionmaker(engine)
        async with factory.begin() as session:
            session.add_all([Customer(id=1, name="Ada"), Customer(id=2, name="Bob")])
        module = block.run(SessionFactory=factory, Customer=Customer, Order=Order)
        outcome = Outcome("", [])
        async with asyncio.timeout(10):
            try:
                outcome.first = await module.place_order(1, 7)
            except Exception as error:
                outcome.first = error
            for _ in range(LATER):
                try:
                    async with factory.begin() as session:
                        await session.execute(text("SELECT 1"))
                except Exception as error:
                    outcome.later.append(error)
    return outcome


async def test_incorrect_breaks_the_connection_for_all_who_come_later(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    outcome = await _place(incorrect, database.url())
    assert isinstance(outcome.first, Exception)
    assert "another operation is in progress" in str(outcome.first)
    assert len(outcome.later) == LATER
    assert all("manually started transaction" in str(error) for error in outcome.later)
    witness.saw(outcome.first, *outcome.later)
    witness.observed(incorrect="the call failed, and then 20 of 20 later requests")


async def test_pre_ping_replaces_the_connection_after_one_more_failure(
    incorrect: Block, database: Database
) -> None:
    outcome = await _place(incorrect, database.url(), pool_pre_ping=True)
    assert isinstance(outcome.first, Exception)
    old = version("sqlalchemy").startswith("2.0.")
    assert len(outcome.later) in ((1, LATER) if old else (1,))


async def test_correct_breaks_nothing(correct: Block, database: Database, witness: Witness) -> None:
    outcome = await _place(correct, database.url())
    assert outcome == Outcome("Ada", [])
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
    witness.observed(correct="the call and 20 of 20 later requests succeeded")


async def test_correct_keeps_no_order_of_a_customer_that_does_not_exist(
    correct: Block, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = correct.run(SessionFactory=sessionmaker(engine), Customer=Customer, Order=Order)
        with pytest.raises(NoResultFound):
            await module.place_order(1, 7)
    assert await database.fetchval("SELECT count(*) FROM orders") == 0


async def test_scalar_gives_none_and_keeps_the_order(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        session.add(Order(number=7))
        assert await session.scalar(select(Customer.name)) is None
        await session.commit()
    assert await database.fetchval("SELECT count(*) FROM orders") == 1


async def test_a_session_for_each_task_takes_a_connection_and_commits_alone(
    database: Database,
) -> None:
    async with engine_with(Base, database.url()) as engine:
        factory = sessionmaker(engine)
        both = asyncio.Barrier(2)

        async def save(number: int) -> None:
            async with factory.begin() as session:
                session.add(Order(number=number))
                await session.flush()
                await both.wait()
                assert engine.pool.checkedout() == 2  # type: ignore[attr-defined]
                await both.wait()
            await both.wait()

        async def fail() -> None:
            async with factory.begin() as session:
                await session.execute(text("SELECT 1"))
                await both.wait()
                await both.wait()
                await both.wait()
                raise ValueError

        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(save(1))
                group.create_task(fail())
    assert await database.fetchval("SELECT count(*) FROM orders") == 1


async def test_psycopg_lets_both_pass(database: Database) -> None:
    async with engine_with(Base, database.url("psycopg")) as engine:
        async with AsyncSession(engine) as session, asyncio.timeout(10):
            session.add(Order(number=7))
            await session.flush()
            one, _ = await asyncio.gather(session.scalar(text("SELECT 1")), session.commit())
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM orders")) == one == 1


async def _read(session: AsyncSession, seconds: float) -> None:
    await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


async def test_reads_in_one_session_run_one_after_the_other(database: Database) -> None:
    async with (
        engine_with(Base, database.url()) as engine,
        AsyncSession(engine) as session,
        asyncio.timeout(10),
    ):
        start = time.monotonic()
        await asyncio.gather(*(_read(session, 0.1) for _ in range(3)))
        assert time.monotonic() - start >= 0.3


@pytest.mark.skipif(version("sqlalchemy") < "2.1", reason="2.0.0 raises nothing, and leaks")
async def test_reads_in_one_session_raise_on_a_cold_pool(
    database: Database, witness: Witness
) -> None:
    engine = create_async_engine(database.url())
    async with AsyncSession(engine) as session, asyncio.timeout(10):
        reads = (_read(session, 0) for _ in range(3))
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
    await engine.dispose()
    errors = [error for error in outcomes if isinstance(error, InvalidRequestError)]
    assert len(errors) == 2
    witness.saw(*errors)


async def test_two_commits_in_one_session_raise(database: Database, witness: Witness) -> None:
    async with engine_with(Base, database.url()) as engine:
        async with AsyncSession(engine) as session, asyncio.timeout(10):
            session.add(Order(number=7))
            commits = session.commit(), session.commit()
            outcomes = await asyncio.gather(*commits, return_exceptions=True)
        errors = [error for error in outcomes if isinstance(error, Exception)]
        assert any(isinstance(error, IllegalStateChangeError) for error in errors)
        witness.saw(*errors)
    assert await database.fetchval("SELECT count(*) FROM orders") == 0
