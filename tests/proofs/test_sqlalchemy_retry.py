"""What a retry may run again, after which errors, and how often."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import ExceptionContext, create_engine, event, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.network import Network
from tests.proofs.tables import engine_with
from tests.services import Database

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"

# The next orders fail with this SQLSTATE: a sequence counts on after a rollback.
FAILING = """
    CREATE SEQUENCE tries;
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END IF;
        RETURN NEW;
    END $$;
    CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON orders {when}
        FOR EACH ROW EXECUTE FUNCTION fail();
"""


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Shop:
    """A block at work on two products whose stock is 10."""

    def __init__(self, block: Block, engine: AsyncEngine) -> None:
        self.engine = engine
        self.factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        self.module = block.run(SessionFactory=self.factory, Order=Order, Product=Product)
        self.place_order = self.module.place_order
        self.pauses: list[tuple[float, float, float]] = []
        self.idle = True

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keep what the block sleeps, and the bounds it draws from; sleep a hundredth of it."""
        sleep = asyncio.sleep
        drawn = [(0.0, 0.0)]

        def uniform(low: float, high: float) -> float:
            drawn.append((low, high))
            return high

        async def sleep_less(seconds: float) -> None:
            self.pauses.append((*drawn[-1], seconds))
            self.idle &= self.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            await sleep(seconds / 100)

        monkeypatch.setattr("random.uniform", uniform)
        monkeypatch.setattr(asyncio, "sleep", sleep_less)


@asynccontextmanager
async def _shop(block: Block, url: Any, **options: Any) -> AsyncIterator[Shop]:
    async with engine_with(Base, url, **options) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO products VALUES (1, 10), (2, 10)"))
        yield Shop(block, engine)


async def _stored(database: Database) -> tuple[int, int]:
    """How many orders there are, and how many pieces of product 1 are gone."""
    orders = await database.fetchval("SELECT count(*) FROM orders")
    assert await database.fetchval("SELECT stock FROM products WHERE id = 2") == 10
    return orders, 10 - await database.fetchval("SELECT stock FROM products WHERE id = 1")


async def _beside_another_writer(block: Block, database: Database) -> tuple[int, int]:
    """An order at REPEATABLE READ whose product somebody else changes after its first read."""
    async with (
        asyncio.timeout(20),
        _shop(block, database.url(), isolation_level="REPEATABLE READ") as shop,
    ):
        async with shop.engine.begin() as other:
            await other.execute(text("UPDATE products SET stock = stock WHERE id = 1"))
            task = asyncio.create_task(shop.place_order(7, 1))
            while not await database.fetchval(WAITING, database.name):
                await asyncio.sleep(0.01)
        await task
    return await _stored(database)


async def test_incorrect_loses_the_order(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    assert await _beside_another_writer(incorrect, database) == (0, 1)
    witness.observed(
        incorrect="after a serialization failure: stock 1 less, 0 orders; "
        "after a COMMIT without an answer: stock 2 less for 1 order; 3 tries for a duplicate"
    )


async def test_correct_stores_both(correct: Block, database: Database, witness: Witness) -> None:
    assert await _beside_another_writer(correct, database) == (1, 1)
    witness.observed(
        correct="after a serialization failure: stock 1 less, 1 order; "
        "after a COMMIT without an answer: the error, stock 1 less; 1 try for a duplicate"
    )


async def _commit_without_an_answer(
    block: Block, database: Database
) -> tuple[Exception | None, tuple[int, int]]:
    async with Network(database) as network, _shop(block, network.url()) as shop:
        network.lose_answer_to = b"COMMIT;"
        failed = None
        try:
            await shop.place_order(7, 1)
        except DBAPIError as error:
            failed = error
    return failed, await _stored(database)


async def test_incorrect_takes_the_stock_twice(incorrect: Block, database: Database) -> None:
    failed, stored = await _commit_without_an_answer(incorrect, database)
    assert (failed, stored) == (None, (1, 2))


async def test_correct_tries_no_commit_twice(
    correct: Block, database: Database, witness: Witness
) -> None:
    failed, stored = await _commit_without_an_answer(correct, database)
    assert isinstance(failed, DBAPIError)
    assert failed.connection_invalidated
    assert stored == (1, 1)
    witness.saw(failed)


async def test_a_connection_lost_before_commit_stores_nothing_and_looks_the_same(
    database: Database,
) -> None:
    block = RuleFile.load("sqlalchemy-retry").block(correct=True)
    async with Network(database) as network, _shop(block, network.url()) as shop:
        raised = []
        for number, lost in enumerate((b"UPDATE products", b"COMMIT;")):
            network.lose_answer_to = lost
            with pytest.raises(DBAPIError) as caught:
                await shop.place_order(number, 1)
            assert caught.value.connection_invalidated
            raised.append((type(caught.value), str(caught.value.orig)))
            assert await _stored(database) == (number, number)
        assert raised[0] == raised[1]


async def _a_duplicate(block: Block, database: Database) -> tuple[Exception | None, Any]:
    async with _shop(block, database.url()) as shop:
        await database.execute("INSERT INTO orders VALUES (7)")
        failed = None
        try:
            await shop.place_order(7, 1)
        except IntegrityError as error:
            failed = error
    return failed, await _stored(database)


async def test_incorrect_takes_stock_for_an_order_that_was_refused(
    incorrect: Block, database: Database
) -> None:
    assert await _a_duplicate(incorrect, database) == (None, (1, 1))


async def test_correct_raises_what_no_retry_mends(correct: Block, database: Database) -> None:
    failed, stored = await _a_duplicate(correct, database)
    assert isinstance(failed, IntegrityError)
    assert stored == (1, 0)


PAUSES = [0.05, 0.1, 0.2, 0.4, 0.8]


AT_COMMIT = "DEFERRABLE INITIALLY DEFERRED"


@pytest.mark.parametrize(
    ("state", "when", "times", "tries"),
    [
        ("40001", "", 5, 6),
        ("40P01", AT_COMMIT, 5, 6),
        ("40001", AT_COMMIT, 6, 6),
        ("55P03", "", 1, 1),
        ("57014", AT_COMMIT, 1, 1),
    ],
)
async def test_correct_tries_six_times_and_only_after_two_states(
    correct: Block,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    when: str,
    times: int,
    tries: int,
) -> None:
    async with _shop(correct, database.url()) as shop:
        await database.execute(FAILING.format(times=times, state=state, when=when))
        shop.hurry(monkeypatch)
        placed = times < tries
        if placed:
            await shop.place_order(7, 1)
        else:
            with pytest.raises(DBAPIError) as caught:
                await shop.place_order(7, 1)
            assert getattr(caught.value.orig, "sqlstate", None) == state
        assert shop.idle
    assert await _stored(database) == (placed, placed)
    assert await database.fetchval("SELECT last_value FROM tries") == tries
    assert shop.pauses == [(0, pause, pause) for pause in PAUSES[: tries - 1]]


def _helper(shop: Shop) -> Any:
    return shop.module.in_transaction


async def test_two_transactions_that_wait_for_each_other_both_end(
    correct: Block, database: Database
) -> None:
    both = asyncio.Barrier(2)
    tries = 0

    async with asyncio.timeout(20), _shop(correct, database.url()) as shop:

        async def take(first: int, second: int) -> None:
            async def work(session: AsyncSession) -> None:
                nonlocal tries
                tries += 1
                less = {"stock": Product.stock - 1}
                await session.execute(update(Product).where(Product.id == first).values(less))
                if tries <= 2:
                    await both.wait()
                await session.execute(update(Product).where(Product.id == second).values(less))

            await _helper(shop)(work)

        await asyncio.gather(take(1, 2), take(2, 1))
    assert tries == 3
    assert await database.fetchval("SELECT sum(stock) FROM products") == 16


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_decides_anew_by_what_it_reads_anew(
    correct: Block, database: Database, witness: Witness, driver: str
) -> None:
    """Two sales of 15 pieces from a stock of 20, which both see all 20 at first."""
    both = asyncio.Barrier(2)
    errors: list[ExceptionContext] = []
    sessions: list[AsyncSession] = []
    options = {"isolation_level": "SERIALIZABLE"}

    async with asyncio.timeout(20), _shop(correct, database.url(driver), **options) as shop:
        event.listen(shop.engine.sync_engine, "handle_error", errors.append)

        async def sell(product_id: int) -> bool:
            async def work(session: AsyncSession) -> bool:
                sessions.append(session)
                if (await session.scalars(select(func.sum(Product.stock)))).one() < 15:
                    return False
                chosen = update(Product).where(Product.id == product_id)
                await session.execute(chosen.values(stock=Product.stock - 15))
                if len(sessions) <= 2:
                    await both.wait()
                return True

            return bool(await _helper(shop)(work))

        assert sorted(await asyncio.gather(sell(1), sell(2))) == [False, True]
    assert len({id(session) for session in sessions}) == len(sessions) == 3
    assert await database.fetchval("SELECT sum(stock) FROM products") == 5
    assert len(errors) == 1
    failed = errors[0].sqlalchemy_exception
    assert failed
    witness.saw(failed, "".join(traceback.format_exception(errors[0].original_exception)))
    assert isinstance(failed, OperationalError) is (driver == "psycopg")


def _ask_sqlite() -> None:
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT missing")
    finally:
        engine.dispose()


def _divide() -> None:
    _ = 1 / len("")


@pytest.mark.parametrize(
    ("fail", "error", "told"),
    [(_ask_sqlite, OperationalError, "no such column"), (_divide, ZeroDivisionError, "division")],
)
async def test_correct_raises_errors_without_a_sqlstate_as_they_are(
    correct: Block, database: Database, fail: Callable[[], None], error: Any, told: str
) -> None:
    async def work(_: AsyncSession) -> None:
        fail()

    async with _shop(correct, database.url()) as shop:
        with pytest.raises(error, match=told):
            await _helper(shop)(work)


async def _other_writer(database: Database) -> None:
    await database.execute("UPDATE products SET stock = 5 WHERE id = 1")


async def test_a_savepoint_does_not_help_after_a_serialization_failure(database: Database) -> None:
    block = RuleFile.load("sqlalchemy-retry").block(correct=True)
    failed = 0
    async with (
        _shop(block, database.url(), isolation_level="REPEATABLE READ") as shop,
        shop.factory() as session,
    ):
        await session.scalar(select(Product.stock))
        await _other_writer(database)
        for _ in range(3):
            with pytest.raises(DBAPIError, match="could not serialize access"):
                async with session.begin_nested():
                    await session.execute(update(Product).values(stock=Product.stock - 1))
            failed += 1
        await session.rollback()
        await session.execute(update(Product).values(stock=Product.stock - 1))
        await session.commit()
    assert failed == 3
    assert await database.fetchval("SELECT stock FROM products WHERE id = 1") == 4


@pytest.mark.parametrize("within", [True, False])
async def test_what_is_read_outside_of_the_work_is_old_in_the_next_try(
    database: Database, within: bool
) -> None:
    block = RuleFile.load("sqlalchemy-retry").block(correct=True)
    read = select(Product.stock).where(Product.id == 1)
    tries = 0
    async with _shop(block, database.url(), isolation_level="REPEATABLE READ") as shop:
        async with shop.factory() as session:
            before = (await session.scalars(read)).one()

        async def work(session: AsyncSession) -> None:
            nonlocal tries
            tries += 1
            stock = (await session.scalars(read)).one() if within else before
            await session.scalar(select(Product.stock))
            if tries == 1:
                await _other_writer(database)
            await session.execute(update(Product).where(Product.id == 1).values(stock=stock - 1))

        await _helper(shop)(work)
    assert tries == 2
    stock = await database.fetchval("SELECT stock FROM products WHERE id = 1")
    assert stock == (4 if within else 9)


async def test_the_helper_takes_a_connection_of_its_own(database: Database) -> None:
    block = RuleFile.load("sqlalchemy-retry").block(correct=True)
    one: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    async with _shop(block, database.url(), **one) as shop, shop.factory() as session:
        await session.scalar(select(Product.stock))
        with pytest.raises(PoolTimeout, match="QueuePool limit"):
            await shop.place_order(7, 1)
        await session.commit()
        await shop.place_order(7, 1)
