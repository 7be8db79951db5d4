"""A connection held during a call bounds the calls by the pool and shuts everybody else out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import exc, select, text, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving

POOL = 2
ORDERS = 12
IDLE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = $1"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    receipt: Mapped[str | None]


class Provider:
    """An HTTP service that answers each call once it may, and counts those that wait."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.post("/charges")(self.charge)
        self.calls = 0
        self.release = asyncio.Event()

    async def charge(self) -> dict[str, str]:
        self.calls += 1
        await self.release.wait()
        return {"receipt": "paid"}


@asynccontextmanager
async def _engine(database: Database, size: int, wait: float) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with orders; `wait` is the pool's timeout in seconds."""
    async with engine_with(
        Base, database.url(), pool_size=size, max_overflow=0, pool_timeout=wait
    ) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(Order(id=n, amount=n) for n in range(1, ORDERS + 1))
        yield engine


@asynccontextmanager
async def _charging(block: Block, engine: AsyncEngine) -> AsyncIterator[tuple[Any, Provider]]:
    """The block's `charge`, and the provider that it calls."""
    provider = Provider()
    async with (
        serving(provider.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=20) as client,
    ):
        factory = async_sessionmaker(engine)
        yield block.run(SessionFactory=factory, Order=Order, provider=client).charge, provider


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def _select(engine: AsyncEngine) -> int | Exception:
    """The answer of somebody who wants no more than a SELECT."""
    try:
        async with engine.connect() as connection:
            return int((await connection.execute(text("SELECT 7"))).scalar_one())
    except exc.TimeoutError as error:
        return error


async def _charge_all(block: Block, database: Database, wait: float) -> dict[str, Any]:
    """What is seen while the provider keeps its callers waiting, and the receipts afterwards.

    `wait` is the pool's timeout in seconds.
    """
    async with (
        _engine(database, POOL, wait) as engine,
        _charging(block, engine) as (charge, provider),
    ):
        tasks = [asyncio.ensure_future(charge(n)) for n in range(1, ORDERS + 1)]
        await _until(lambda: provider.calls >= POOL)
        beside = await _select(engine)
        await _until(lambda: provider.calls + sum(task.done() for task in tasks) == ORDERS)
        seen = {
            "calls": provider.calls,
            "idle in transaction": await database.fetchval(IDLE, database.name),
            "beside": beside,
        }
        provider.release.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks, return_exceptions=True)
    paid = await database.fetchval("SELECT count(*) FROM orders WHERE receipt = 'paid'")
    return {**seen, "paid": paid}


async def test_incorrect_calls_no_more_than_the_pool_has_connections(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    seen = await _charge_all(incorrect, database, wait=0.5)
    beside = seen.pop("beside")
    assert seen == {"calls": POOL, "idle in transaction": POOL, "paid": POOL}
    assert isinstance(beside, exc.TimeoutError)
    witness.saw(beside)
    witness.observed(
        incorrect="pool of 2: 2 of 12 calls at once, 10 charges and a SELECT beside them failed"
    )


async def test_correct_calls_all_at_once_and_shuts_nobody_out(
    correct: Block, database: Database, witness: Witness
) -> None:
    seen = await _charge_all(correct, database, wait=4)
    assert seen == {"calls": ORDERS, "idle in transaction": 0, "paid": ORDERS, "beside": 7}
    witness.observed(correct="pool of 2: 12 of 12 calls at once, and a SELECT beside them answered")


async def test_correct_asks_the_provider_once_for_an_order(
    correct: Block, database: Database
) -> None:
    async with (
        _engine(database, POOL, wait=4) as engine,
        _charging(correct, engine) as (charge, provider),
        asyncio.timeout(10),
    ):
        provider.release.set()
        await charge(3)
        for order_id in (3, ORDERS + 1):
            with pytest.raises(exc.NoResultFound):
                await charge(order_id)
    assert provider.calls == 1


async def test_a_second_connection_inside_the_first_one_fails_all_who_ask_for_it(
    database: Database,
) -> None:
    async with _engine(database, 5, wait=0.3) as engine:
        everybody = asyncio.Barrier(5)

        async def nested() -> None:
            async with engine.connect():
                await everybody.wait()
                async with engine.connect():
                    pass

        async with asyncio.timeout(10):
            results = await asyncio.gather(*(nested() for _ in range(5)), return_exceptions=True)
        assert [type(each) for each in results] == [exc.TimeoutError] * 5


async def test_a_commit_gives_the_connection_back_and_keeps_plain_values(
    database: Database,
) -> None:
    async with (
        _engine(database, POOL, wait=1) as engine,
        AsyncSession(engine, expire_on_commit=False) as session,
    ):
        pool: Any = engine.pool
        held = pool.checkedout
        assert held() == 0
        order = (await session.execute(select(Order).where(Order.id == 3))).scalar_one()
        assert held() == 1
        await session.commit()
        assert (held(), order.amount) == (0, 3)
        await session.execute(select(Order))
        assert held() == 1


async def test_the_dependencys_session_refuses_a_statement_after_a_commit_and_the_first_part_stays(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with _engine(database, POOL, wait=1) as engine:
        block = RuleFile.load("fastapi-transaction-scope").block(correct=True)
        module = block.run(SessionFactory=async_sessionmaker(engine), Order=Order)
        app: FastAPI = module.app

        @app.post("/pay/{order_id}")
        async def pay(order_id: int, session: Any = module.Session.__metadata__[0]) -> None:
            query = update(Order).where(Order.id == order_id)
            await session.execute(query.values(receipt="asked"))
            await session.commit()
            await session.execute(query.values(receipt="paid"))

        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.post("/pay/3")).status_code == 500
    assert "Can't operate on closed transaction" in caplog.text
    assert await database.fetchval("SELECT receipt FROM orders WHERE id = 3") == "asked"


async def test_a_stream_that_reads_from_a_session_holds_its_connection(
    database: Database,
) -> None:
    app, go_on = FastAPI(), asyncio.Event()
    async with _engine(database, 1, wait=0.3) as engine:

        async def session() -> AsyncIterator[AsyncSession]:
            async with AsyncSession(engine) as opened:
                yield opened

        @app.get("/export")
        async def export(opened: AsyncSession = Depends(session)) -> StreamingResponse:
            async def lines() -> AsyncIterator[str]:
                async for amount in await opened.stream_scalars(select(Order.amount)):
                    yield f"{amount}\n"
                    await go_on.wait()

            return StreamingResponse(lines())

        async with (
            serving(app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=10) as client,
            client.stream("GET", "/export") as response,
        ):
            assert response.status_code == 200
            assert isinstance(await _select(engine), exc.TimeoutError)
            go_on.set()
            assert len((await response.aread()).split()) == ORDERS
            async with asyncio.timeout(10):
                while await _select(engine) != 7:
                    pass
