"""A scope that an async generator yields in cancels its consumer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    open: Mapped[bool] = mapped_column(default=True)


Generator = AsyncGenerator[int, None]
ROWS = 250


class Clock:
    """Makes real timeouts, and lets those that still run expire at once."""

    def __init__(self) -> None:
        self.limits: list[asyncio.Timeout] = []

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.limits.append(asyncio.timeout(seconds))
        return self.limits[-1]

    async def time_passes(self) -> None:
        for limit in self.limits:
            with suppress(RuntimeError):  # it has ended
                limit.reschedule(0)
        await asyncio.sleep(0.01)


async def _await_after_break(orders: Generator, clock: Clock) -> int:
    async for _ in orders:
        break
    await clock.time_passes()
    return 1


async def _await_in_the_body(orders: Generator, clock: Clock) -> int:
    rows = 0
    async for _ in orders:
        rows += 1
        if rows in (1, 150):
            await clock.time_passes()
    return rows


CONSUMERS = [_await_after_break, _await_in_the_body]


async def _consume(orders: Generator, clock: Clock, consumer: Any) -> int | BaseException:
    """What a task gets that consumes these orders: its result, or its error."""

    async def consume() -> int | BaseException:
        try:
            return int(await consumer(orders, clock))
        except (TimeoutError, asyncio.CancelledError) as error:
            return error
        finally:
            await orders.aclose()

    return await asyncio.wait_for(asyncio.create_task(consume()), 10)


def _rows() -> list[dict[str, Any]]:
    """More than two pages of open orders and some that are closed, the newest first."""
    rows = [{"id": number + 1, "open": True} for number in range(ROWS)]
    closed = [{"id": ROWS + number, "open": False} for number in range(1, 10)]
    return [*closed, *reversed(rows)]


async def _consume_block(block: Block, database: Database, consumer: Any) -> int | BaseException:
    clock = Clock()
    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            await connection.execute(insert(Order), _rows())
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = block.run(SessionFactory=factory, Order=Order)
        module.asyncio = SimpleNamespace(**{**vars(asyncio), "timeout": clock.timeout})
        return await _consume(module.open_orders(), clock, consumer)


@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_incorrect_cancels_its_consumer(
    consumer: Any, incorrect: Block, database: Database, witness: Witness
) -> None:
    error = await _consume_block(incorrect, database, consumer)
    assert isinstance(error, asyncio.CancelledError)
    witness.saw(error)
    witness.observed(
        incorrect="a slow loop body and an await after `break` both got CancelledError"
    )


@pytest.mark.parametrize(("consumer", "rows"), [(CONSUMERS[0], 1), (CONSUMERS[1], ROWS)])
async def test_correct_leaves_its_consumer_alone(
    consumer: Any, rows: int, correct: Block, database: Database, witness: Witness
) -> None:
    assert await _consume_block(correct, database, consumer) == rows
    witness.observed(correct="both went on; the slow loop read 250 of 250 rows")


async def test_correct_reads_pages_in_order_holds_no_connection_between_them_and_bounds_each(
    correct: Block, database: Database
) -> None:
    clock = Clock()
    queries: list[str] = []
    in_use: set[int] = set()
    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            await connection.execute(insert(Order), _rows())
        module = correct.run(SessionFactory=async_sessionmaker(engine), Order=Order)
        module.asyncio = SimpleNamespace(**{**vars(asyncio), "timeout": clock.timeout})
        event.listen(
            engine.sync_engine, "before_cursor_execute", lambda *args: queries.append(args[2])
        )
        read: list[int] = []
        async for order_id in module.open_orders():
            read.append(order_id)
            in_use.add(engine.pool.checkedout())  # type: ignore[attr-defined]
        assert read == list(range(1, ROWS + 1))
        assert (len(queries), in_use) == (3, {0})
        async with asyncio.timeout(20), engine.begin() as other:
            await other.execute(text("LOCK TABLE orders"))
            reading = asyncio.ensure_future(anext(module.open_orders()))
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            await clock.time_passes()
            await asyncio.wait([reading], timeout=5)
            assert reading.done()
            assert isinstance(reading.exception(), TimeoutError)


async def _numbers_in_a_timeout(clock: Clock) -> Generator:
    async with clock.timeout(60):
        yield 1
        yield 2


async def test_a_generator_that_nothing_holds_is_closed_later_and_by_another_task() -> None:
    closed_by: list[asyncio.Task[Any] | None] = []

    async def numbers(clock: Clock) -> Generator:
        try:
            async with clock.timeout(60):
                yield 1
                yield 2
        finally:
            closed_by.append(asyncio.current_task())

    async def consume(clock: Clock) -> None:
        async for _ in numbers(clock):
            break
        assert closed_by == []
        await asyncio.sleep(0.01)
        await clock.time_passes()

    consumer = asyncio.create_task(consume(Clock()))
    await consumer
    assert len(closed_by) == 1
    assert closed_by[0] is not consumer


async def test_until_then_its_scope_still_cancels_the_consumer() -> None:
    async def consume(clock: Clock) -> None:
        async for _ in _numbers_in_a_timeout(clock):
            break
        await clock.time_passes()

    consumer = asyncio.create_task(consume(Clock()))
    await asyncio.wait([consumer], timeout=10)
    assert consumer.cancelled()


async def test_aclosing_helps_after_a_break_and_not_in_the_body() -> None:
    def closing(consumer: Callable[[Generator, Clock], Awaitable[int]]) -> Any:
        async def consume(orders: Generator, clock: Clock) -> int:
            async with aclosing(orders):
                if consumer is _await_in_the_body:
                    return await consumer(orders, clock)
                async for _ in orders:
                    break
            await clock.time_passes()
            return 1

        return consume

    outcomes = []
    for consumer in CONSUMERS:
        clock = Clock()
        outcomes.append(await _consume(_numbers_in_a_timeout(clock), clock, closing(consumer)))
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], asyncio.CancelledError)


async def test_a_context_manager_may_yield_in_a_timeout() -> None:
    clock = Clock()

    @asynccontextmanager
    async def bounded() -> AsyncIterator[None]:
        async with clock.timeout(60):
            yield

    with pytest.raises(TimeoutError):
        async with bounded():
            await clock.time_passes()


async def test_a_generator_in_a_task_group_cannot_be_closed_before_3_15() -> None:
    async def numbers() -> Generator:
        async with asyncio.TaskGroup():
            yield 1

    generator = numbers()
    assert await anext(generator) == 1
    if sys.version_info >= (3, 15):
        await generator.aclose()
        return
    with pytest.raises(BaseExceptionGroup) as caught:
        await generator.aclose()
    assert [type(each) for each in caught.value.exceptions] == [GeneratorExit]


async def test_a_task_group_cancels_the_consumer_when_a_child_fails() -> None:
    fails = asyncio.Event()

    async def child() -> None:
        await fails.wait()
        raise ConnectionError

    async def numbers() -> Generator:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            yield 1

    async def consume() -> None:
        held = numbers()
        async for _ in held:
            break
        fails.set()
        try:
            await asyncio.sleep(10)
        finally:
            with suppress(BaseExceptionGroup):
                await held.aclose()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(consume())
