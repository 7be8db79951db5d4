"""A commit that fails is seen by the client only where it runs before the response."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.exceptions import FastAPIError
from fastapi.responses import StreamingResponse
from sqlalchemy import BigInteger, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)


async def _post_twice(block: Block, database: Database) -> tuple[list[int], int]:
    """The statuses of two orders with one number, and the rows that are there afterwards."""
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = block.run(SessionFactory=factory, Order=Order)
        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            statuses = [(await client.post("/orders/7")).status_code for _ in range(2)]
    return statuses, await database.fetchval("SELECT count(*) FROM orders")


async def test_incorrect_answers_200_and_loses_the_write(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    statuses, rows = await _post_twice(incorrect, database)
    assert (statuses, rows) == ([200, 200], 1)
    witness.observed(incorrect="two orders with one number: 200 and 200, 1 row of 2")


async def test_correct_answers_500_for_the_write_that_failed(
    correct: Block, database: Database, witness: Witness
) -> None:
    module = correct.run(SessionFactory=None, Order=Order)
    assert await module.create_order(7, AsyncSession()) == {"number": 7}
    statuses, rows = await _post_twice(correct, database)
    assert (statuses, rows) == ([200, 500], 1)
    witness.observed(correct="two orders with one number: 200 and 500, 1 row")


async def test_whatever_the_route_raises_and_a_refused_answer_roll_back(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        block = RuleFile.load("fastapi-transaction-scope").block(correct=True)
        module = block.run(SessionFactory=factory, Order=Order)
        app: FastAPI = module.app

        @app.post("/refused/{number}")
        async def refuse(number: int, session: Any = module.Session.__metadata__[0]) -> None:
            session.add(Order(number=number))
            await session.flush()
            raise HTTPException(409)

        @app.post("/invalid/{number}")
        async def invalid(number: int, session: Any = module.Session.__metadata__[0]) -> int:
            session.add(Order(number=number))
            await session.flush()
            return "not a number"  # type: ignore[return-value]

        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            paths = ("/refused/7", "/invalid/7", "/orders/7")
            answers = [await client.post(path) for path in paths]
        assert [answer.status_code for answer in answers] == [409, 500, 200]
        assert answers[2].json() == {"number": 7}
    assert "ResponseValidationError" in caplog.text
    assert await database.fetchval("SELECT count(*) FROM orders") == 1


@pytest.mark.skipif(version("fastapi") == "0.121.0", reason="there no route can yield")
async def test_a_route_that_yields_begins_after_the_session_is_closed(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        block = RuleFile.load("fastapi-transaction-scope").block(correct=True)
        module = block.run(SessionFactory=factory, Order=Order)
        app: FastAPI = module.app
        used: list[AsyncSession] = []
        pool: Any = engine.pool

        @app.get("/stream")
        async def stream(session: Any = module.Session.__metadata__[0]) -> AsyncIterator[int]:
            used.append(session)
            assert not session.in_transaction()
            yield await session.scalar(select(1))

        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.get("/stream")).text.split() == ["1"]
            assert pool.checkedout() == 1
            await used[0].close()


async def test_in_process_clients_raise_the_lost_error(
    incorrect: Block, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = incorrect.run(SessionFactory=async_sessionmaker(engine), Order=Order)
        transport = httpx.ASGITransport(module.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/orders/7")).status_code == 200
            with pytest.raises(IntegrityError):
                assert (await client.post("/orders/7")).status_code == 500
        quiet = httpx.ASGITransport(module.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=quiet, base_url="http://test") as client:
            assert (await client.post("/orders/7")).status_code == 200


def test_a_yield_dependency_over_it_needs_function_scope_too(
    correct: Block, witness: Witness
) -> None:
    module = correct.run(SessionFactory=None, Order=Order)

    async def outer(session: Any = module.Session.__metadata__[0]) -> Any:
        yield session

    with pytest.raises(FastAPIError, match="scope") as refused:
        FastAPI().get("/")(lambda value=Depends(outer): value)
    witness.saw(refused.value)


async def test_a_stream_needs_a_session_of_its_own(
    database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        block = RuleFile.load("fastapi-transaction-scope").block(correct=True)
        module = block.run(SessionFactory=factory, Order=Order)
        app: FastAPI = module.app
        async with factory.begin() as opened:
            opened.add_all(Order(number=number) for number in range(3))
        used: list[AsyncSession] = []
        pool: Any = engine.pool

        async def lines(session: AsyncSession) -> AsyncIterator[str]:
            used.append(session)
            async for number in await session.stream_scalars(select(Order.number)):
                yield f"{number}\n"

        async def own_lines() -> AsyncIterator[str]:
            async with factory() as session:
                async for line in lines(session):
                    yield line

        @app.get("/own")
        async def own() -> StreamingResponse:
            return StreamingResponse(own_lines())

        @app.get("/function")
        async def function(
            session: Any = module.Session.__metadata__[0],
        ) -> StreamingResponse:
            return StreamingResponse(lines(session))

        @app.get("/request")
        async def request(session: Any = Depends(module.get_session)) -> StreamingResponse:
            await session.commit()
            return StreamingResponse(lines(session))

        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            for path, left in (("/own", 0), ("/function", 1)):
                assert (await client.get(path)).text.split() == ["0", "1", "2"]
                assert pool.checkedout() == left
            await used[-1].close()
            async with client.stream("GET", "/request") as response:
                assert response.status_code == 200
                with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                    await response.aread()
    assert "Can't operate on closed transaction" in caplog.text
    witness.saw(caplog.text)
