"""A transaction begins with its session: a second begin() raises, whoever used the session first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]


Sessions = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def _sessions(database: Database) -> AsyncIterator[Sessions]:
    """A factory, over a database with one user."""
    async with engine_with(Base, database.url(), pool_size=1, max_overflow=0) as engine:
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with sessions.begin() as session:
            session.add(User(id=1))
        yield sessions


async def _post(app: FastAPI, number: int, user: int = 1, *, raises: bool = True) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=10) as client:
        return await client.post(f"/orders/{number}", headers={"user-id": str(user)})


async def _orders(database: Database) -> list[tuple[int, int]]:
    return [tuple(row) for row in await database.fetch("SELECT number, user_id FROM orders")]


def _module(block: Block, sessions: Sessions) -> Any:
    return block.run(SessionFactory=sessions, User=User, Order=Order)


async def test_incorrect_raises_behind_the_dependency_that_reads(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _sessions(database) as sessions:
        module = _module(incorrect, sessions)
        with pytest.raises(InvalidRequestError) as raised:
            await _post(module.app, 7)
        witness.saw(raised.value)
        assert (await _post(module.app, 7, raises=False)).status_code == 500
        assert await _orders(database) == []
        module.app.dependency_overrides[module.current_user] = lambda: User(id=1)
        assert (await _post(module.app, 7)).status_code == 200
        assert await _orders(database) == [(7, 1)]
    witness.observed(incorrect="500 and no order; 200 where the dependency is replaced")


async def test_correct_stores_the_order_with_and_without_the_dependency(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _sessions(database) as sessions:
        module = _module(correct, sessions)
        assert (await _post(module.app, 7)).json() == {"number": 7}
        assert (await _post(module.app, 8, user=2)).status_code == 401
        module.app.dependency_overrides[module.current_user] = lambda: User(id=1)
        assert (await _post(module.app, 9)).status_code == 200
        assert await _orders(database) == [(7, 1), (9, 1)]
    witness.observed(correct="200 and the order; 401 and none for an unknown user")


async def test_correct_commits_before_it_answers(correct: Block, database: Database) -> None:
    async with _sessions(database) as sessions:
        module = _module(correct, sessions)
        assert (await _post(module.app, 7)).status_code == 200
        with pytest.raises(IntegrityError):
            await _post(module.app, 7)
        assert (await _post(module.app, 8)).status_code == 200
        seen: list[int] = []

        async def watch(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    seen.append(len(await _orders(database)))
                await send(message)

            await module.app(scope, receive, sending)

        transport = httpx.ASGITransport(watch)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.post("/orders/9", headers={"user-id": "1"})
        assert seen == [3]


async def test_a_commit_before_begin_splits_the_work(database: Database) -> None:
    async with _sessions(database) as sessions, sessions() as session:
        session.add(Order(number=1, user_id=1))
        await session.flush()
        await session.commit()  # so that begin() below does not raise
        with pytest.raises(IntegrityError):
            async with session.begin():
                session.add(Order(number=1, user_id=2))
        assert await _orders(database) == [(1, 1)]
        await session.scalars(select(Order))
        session.add(Order(number=2, user_id=1))
        await session.flush()
        await session.rollback()
        async with session.begin():
            session.add(Order(number=3, user_id=1))
        assert await _orders(database) == [(1, 1), (3, 1)]


async def test_an_added_object_begins_a_transaction_too(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine, AsyncSession(engine) as session:
        session.add(Order(number=7, user_id=1))
        with pytest.raises(InvalidRequestError, match="already begun on this Session"):
            await session.begin()


async def test_a_savepoint_rolls_back_its_own_block(database: Database) -> None:
    async with _sessions(database) as sessions:
        async with sessions.begin() as session:
            session.add(Order(number=1, user_id=1))
            await session.flush()
            with pytest.raises(IntegrityError):
                async with session.begin_nested():
                    session.add(Order(number=1, user_id=2))
            session.add(Order(number=2, user_id=1))
        assert await _orders(database) == [(1, 1), (2, 1)]


async def test_a_read_between_two_blocks_begins_another(
    database: Database, witness: Witness
) -> None:
    async with _sessions(database) as sessions, sessions() as session:
        for number in 1, 2:
            async with session.begin():
                session.add(Order(number=number, user_id=1))
        await session.scalars(select(Order))
        with pytest.raises(InvalidRequestError, match="already begun") as raised:
            async with session.begin():
                pass
        witness.saw(raised.value)


async def test_a_connection_does_the_same(database: Database) -> None:
    async with _sessions(database) as sessions, sessions() as session:
        bind: Any = session.bind
        async with bind.connect() as connection:
            assert isinstance(connection, AsyncConnection)
            await connection.execute(text("SELECT 1"))
            with pytest.raises(InvalidRequestError, match="already initialized"):
                async with connection.begin():
                    pass
        async with bind.begin() as connection:
            await connection.execute(text("SELECT 1"))
