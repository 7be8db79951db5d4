"""A connection held during a call bounds the calls by the pool and shuts everybody else out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import ForeignKey, exc, select, text, update
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
DRIVERS = ("asyncpg", "psycopg")
IDLE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = $1"
OPEN = "SELECT count(*) FROM payments WHERE receipt IS NULL"
PAID = "SELECT count(*) FROM payments WHERE receipt = 'receipt of order-' || order_id"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Payment(Base):
    __tablename__ = "payments"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    amount: Mapped[int]
    receipt: Mapped[str | None]


class Charge(BaseModel):
    amount: int


class Provider:
    """An HTTP service that answers each call once it may, and counts those that wait.

    It charges once for each idempotency key, as payment providers do.
    """

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.post("/charges")(self.charge)
        self.calls = 0
        self.charged: dict[str, int] = {}
        self.failing = False
        self.release = asyncio.Event()

    async def charge(
        self, charge: Charge, idempotency_key: Annotated[str, Header()]
    ) -> dict[str, str]:
        self.calls += 1
        self.charged.setdefault(idempotency_key, charge.amount)
        await self.release.wait()
        if self.failing:
            raise HTTPException(502)
        return {"receipt": f"receipt of {idempotency_key}"}


@asynccontextmanager
async def _engine(
    database: Database, size: int, wait: float, driver: str = "asyncpg"
) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with orders; `wait` is the pool's timeout in seconds."""
    async with engine_with(
        Base, database.url(driver), pool_size=size, max_overflow=0, pool_timeout=wait
    ) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(Order(id=n, amount=n) for n in range(1, ORDERS + 1))
        yield engine


@dataclass
class Shop:
    """A block on an engine, and the provider that it calls."""

    engine: AsyncEngine
    provider: Provider
    block: Any


@asynccontextmanager
async def _shop(
    block: Block, database: Database, wait: float = 4, driver: str = "asyncpg"
) -> AsyncIterator[Shop]:
    """The block with a pool of 2; all that is done with it takes 10 s at most."""
    provider = Provider()
    async with (
        _engine(database, POOL, wait, driver) as engine,
        serving(provider.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=20) as client,
        asyncio.timeout(10),
    ):
        factory = async_sessionmaker(engine)
        given = {"SessionFactory": factory, "Order": Order, "Payment": Payment, "provider": client}
        yield Shop(engine, provider, block.run(**given))


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
    async with _shop(block, database, wait) as shop:
        provider = shop.provider
        tasks = [asyncio.ensure_future(shop.block.charge(n)) for n in range(1, ORDERS + 1)]
        await _until(lambda: provider.calls >= POOL)
        beside = await _select(shop.engine)
        await _until(lambda: provider.calls + sum(task.done() for task in tasks) == ORDERS)
        seen = {
            "calls": provider.calls,
            "idle in transaction": await database.fetchval(IDLE, database.name),
            "intents": await database.fetchval(OPEN),
            "beside": beside,
        }
        provider.release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {**seen, "paid": await database.fetchval(PAID)}


async def test_incorrect_calls_no_more_than_the_pool_has_connections(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    seen = await _charge_all(incorrect, database, wait=0.5)
    beside = seen.pop("beside")
    assert seen == {"calls": POOL, "idle in transaction": POOL, "intents": 0, "paid": POOL}
    assert isinstance(beside, exc.TimeoutError)
    witness.saw(beside)
    witness.observed(
        incorrect="pool of 2: 2 of 12 calls at once, 10 charges and a SELECT beside them failed; "
        "idle_in_transaction_session_timeout: charged, no receipt stored"
    )


async def test_correct_calls_all_at_once_and_shuts_nobody_out(
    correct: Block, database: Database, witness: Witness
) -> None:
    seen = await _charge_all(correct, database, wait=4)
    assert seen == {
        "calls": ORDERS,
        "idle in transaction": 0,
        "intents": ORDERS,
        "paid": ORDERS,
        "beside": 7,
    }
    witness.observed(
        correct="pool of 2: 12 of 12 calls at once, and a SELECT beside them answered; "
        "idle_in_transaction_session_timeout: receipt stored"
    )


async def _charge_while(
    shop: Shop, meanwhile: Callable[[], Awaitable[object]]
) -> BaseException | None:
    """The error of a charge of order 3, during whose call something happens."""
    charging: asyncio.Task[None] = asyncio.create_task(shop.block.charge(3))
    await _until(lambda: shop.provider.calls == 1 or charging.done())
    try:
        await meanwhile()
    finally:
        shop.provider.release.set()
        await asyncio.wait({charging})
    return charging.exception()


async def _charge_where_the_server_limits_idle_transactions(
    block: Block, database: Database, driver: str
) -> tuple[BaseException | None, dict[str, int], int]:
    """The error, what was charged and the receipts, where such a transaction ends after 0.3 s."""

    async def outlast_the_limit() -> None:
        await asyncio.sleep(0.4)
        while await database.fetchval(IDLE, database.name):
            await asyncio.sleep(0.01)

    async with _shop(block, database, driver=driver) as shop:
        async with shop.engine.begin() as connection:  # the one that is in the pool
            await connection.execute(text("SET idle_in_transaction_session_timeout = 300"))
        error = await _charge_while(shop, outlast_the_limit)
    return error, shop.provider.charged, await database.fetchval(PAID)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_incorrect_charges_and_loses_the_receipt_where_the_server_limits_idle_transactions(
    incorrect: Block, database: Database, witness: Witness, driver: str
) -> None:
    error, *outcome = await _charge_where_the_server_limits_idle_transactions(
        incorrect, database, driver
    )
    assert isinstance(error, exc.DBAPIError)
    assert outcome == [{"order-3": 3}, 0]
    witness.saw(error)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_correct_may_wait_longer_than_the_servers_limit_on_idle_transactions(
    correct: Block, database: Database, driver: str
) -> None:
    outcome = await _charge_where_the_server_limits_idle_transactions(correct, database, driver)
    assert outcome == (None, {"order-3": 3}, 1)


async def test_correct_asks_the_provider_once_for_an_order(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        shop.provider.release.set()
        await shop.block.charge(3)
        with pytest.raises(exc.IntegrityError, match="payments_pkey"):
            await shop.block.charge(3)
        with pytest.raises(exc.NoResultFound):
            await shop.block.charge(ORDERS + 1)
    assert (shop.provider.calls, shop.provider.charged) == (1, {"order-3": 3})


@pytest.mark.parametrize(
    "change",
    [
        "receipt = 'of somebody else'",
        "amount = 900",
        "order_id = 12",
    ],
)
async def test_correct_raises_where_the_payment_changed_during_the_call(
    correct: Block, database: Database, change: str
) -> None:
    update_payments = f"UPDATE payments SET {change}"
    async with _shop(correct, database) as shop:
        error = await _charge_while(shop, lambda: database.execute(update_payments))
    assert isinstance(error, exc.NoResultFound)
    assert await database.fetchval(PAID) == 0


async def test_correct_records_what_was_charged_although_the_order_changed(
    correct: Block, database: Database
) -> None:
    async def change_the_order() -> None:
        assert await database.fetchval(OPEN) == 1
        await database.execute("UPDATE orders SET amount = 900 WHERE id = 3")

    async with _shop(correct, database) as shop:
        assert await _charge_while(shop, change_the_order) is None
    assert await database.fetchval(PAID) == 1
    assert await database.fetchval("SELECT amount FROM payments WHERE order_id = 3") == 3


async def test_correct_keeps_the_order_of_a_payment_from_being_deleted(
    correct: Block, database: Database
) -> None:
    delete = "DELETE FROM orders WHERE id = 3"
    async with _shop(correct, database) as shop:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await _charge_while(shop, lambda: database.execute(delete))
    assert await database.fetchval(PAID) == 1


async def test_correct_waits_for_a_change_of_the_amount_that_is_not_committed_yet(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        shop.provider.release.set()
        async with AsyncSession(shop.engine) as session, session.begin():
            await session.execute(update(Order).values(amount=900))
            charging = asyncio.ensure_future(shop.block.charge(3))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await database.fetchval(waiting):
                assert not charging.done()
                await asyncio.sleep(0.01)
        await charging
    assert shop.provider.charged == {"order-3": 900}


async def test_correct_settles_later_what_the_provider_charged_but_did_not_answer(
    correct: Block, database: Database
) -> None:
    async with _shop(correct, database) as shop:
        shop.provider.release.set()
        shop.provider.failing = True
        with pytest.raises(httpx.HTTPStatusError):
            await shop.block.charge(3)
        assert (await database.fetchval(OPEN), await database.fetchval(PAID)) == (1, 0)
        shop.provider.failing = False
        await shop.block.settle(3, 3)
    assert (await database.fetchval(OPEN), await database.fetchval(PAID)) == (0, 1)
    assert (shop.provider.calls, shop.provider.charged) == (2, {"order-3": 3})


async def test_an_update_whose_result_nobody_reads_passes_where_it_changed_nothing(
    database: Database,
) -> None:
    async with _engine(database, POOL, wait=1) as engine, AsyncSession(engine) as session:
        await session.execute(update(Payment).where(Payment.order_id == 99).values(receipt="lost"))
        await session.commit()
    assert await database.fetchval("SELECT count(*) FROM payments") == 0


async def test_a_second_connection_inside_the_first_one_fails_all_who_ask_for_it(
    database: Database,
) -> None:
    async with _engine(database, 5, wait=0.3) as engine:
        everybody = asyncio.Barrier(5)

        async def nested() -> None:
            async with engine.connect():
                await everybody.wait()
                try:
                    async with engine.connect():
                        pass
                finally:
                    await everybody.wait()  # what one gives back would serve another

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
            await session.execute(query.values(amount=100))
            await session.commit()
            await session.execute(query.values(amount=200))

        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.post("/pay/3")).status_code == 500
    assert "Can't operate on closed transaction" in caplog.text
    assert await database.fetchval("SELECT amount FROM orders WHERE id = 3") == 100


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
