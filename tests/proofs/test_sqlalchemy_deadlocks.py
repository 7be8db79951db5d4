"""Transactions that take the same rows deadlock, unless they take them in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import ForeignKey, event, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
DRIVERS: dict[str, dict[str, Any]] = {
    "asyncpg": {"server_settings": {"deadlock_timeout": "50ms"}},
    "psycopg": {"options": "-c deadlock_timeout=50ms"},
}


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))


Work = Callable[[], Coroutine[Any, Any, Any]]


class Bank:
    """Three accounts with 100 each."""

    def __init__(self, database: Database, engine: AsyncEngine) -> None:
        self.database = database
        self.factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        self._works: list[asyncio.Future[Any]] = []
        self._begun: set[Any] = set()
        event.listen(engine.sync_engine, "after_cursor_execute", self._executed)

    def _executed(self, connection: Any, *_: Any) -> None:
        task = asyncio.current_task()
        if task in self._works and task not in self._begun:
            self._begun.add(task)
            connection.connection.dbapi_connection.run_async(self._until_all_have_begun)

    async def _until_all_have_begun(self, _: Any) -> None:
        """Wait until each of the others has executed its first statement, or waits for a lock."""
        count = len(self._works)
        while len(self._begun) < count:
            waiting = await self.database.fetchval(WAITING, self.database.name)
            if len(self._begun) + waiting >= count:
                return
            await asyncio.sleep(0.01)

    async def at_once(self, *works: Work) -> list[BaseException]:
        """Let all execute their first statement before one goes on; give what they raise."""
        self._works = [asyncio.ensure_future(work()) for work in works]
        async with asyncio.timeout(60):
            ended = await asyncio.gather(*self._works, return_exceptions=True)
        return [each for each in ended if isinstance(each, BaseException)]

    async def balances(self) -> list[int]:
        rows = await self.database.fetch("SELECT balance FROM accounts ORDER BY id")
        return [row["balance"] for row in rows]


@asynccontextmanager
async def _bank(database: Database, driver: str = "asyncpg") -> AsyncIterator[Bank]:
    async with engine_with(Base, database.url(driver), connect_args=DRIVERS[driver]) as engine:
        await database.execute("INSERT INTO accounts VALUES (1, 100), (2, 100), (3, 100)")
        yield Bank(database, engine)


async def _two_transfers(
    block: Block, database: Database, driver: str = "asyncpg"
) -> tuple[list[BaseException], list[int]]:
    async with _bank(database, driver) as bank:
        module = block.run(SessionFactory=bank.factory, Account=Account)
        failed = await bank.at_once(
            lambda: module.transfer(1, 2, 10), lambda: module.transfer(2, 1, 30)
        )
        return failed, await bank.balances()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_incorrect_deadlocks(
    incorrect: Block, database: Database, witness: Witness, driver: str
) -> None:
    failed, balances = await _two_transfers(incorrect, database, driver)
    assert len(failed) == 1
    assert isinstance(failed[0], DBAPIError)
    assert getattr(failed[0].orig, "sqlstate", None) == "40P01"
    assert balances in ([90, 110, 100], [130, 70, 100])
    witness.saw(failed[0])
    witness.observed(incorrect="two opposite transfers at once: deadlock detected, 1 of 2 stored")


async def test_correct_stores_both(correct: Block, database: Database, witness: Witness) -> None:
    assert await _two_transfers(correct, database) == ([], [120, 80, 100])
    witness.observed(correct="two opposite transfers at once: 2 of 2 stored")


FREE = "SELECT id FROM accounts WHERE id = 2 FOR NO KEY UPDATE SKIP LOCKED"


async def test_correct_locks_by_id_and_waits_for_those_two_rows_only(
    correct: Block, database: Database
) -> None:
    """The rows lie in the table by falling id; others insert a payment, and change account 3."""
    async with _bank(database) as bank, asyncio.timeout(20):
        await database.execute("TRUNCATE accounts CASCADE")
        await database.execute("INSERT INTO accounts VALUES (3, 100), (2, 100), (1, 100)")
        module = correct.run(SessionFactory=bank.factory, Account=Account)
        async with bank.factory.begin() as other:
            other.add(Payment(account_id=2))
            await other.flush()
            await other.execute(text("UPDATE accounts SET balance = 0 WHERE id = 3"))
            async with bank.factory.begin() as gate:
                await gate.execute(text("SELECT * FROM accounts WHERE id = 1 FOR UPDATE"))
                task = asyncio.create_task(module.transfer(2, 1, 10))
                while not await database.fetchval(WAITING, database.name):
                    await asyncio.sleep(0.01)
                assert await database.fetchval(FREE) == 2
            await task
            assert await bank.balances() == [110, 90, 100]


@pytest.mark.parametrize(("key_share", "deadlocks"), [(False, 1), (True, 0)])
async def test_a_row_that_refers_to_another_keeps_it_from_for_update_only(
    database: Database, key_share: bool, deadlocks: int
) -> None:
    async with _bank(database) as bank:

        async def pay() -> None:
            async with bank.factory.begin() as session:
                session.add(Payment(account_id=1))
                await session.flush()
                query = select(Account).where(Account.id == 1).with_for_update(key_share=key_share)
                (await session.scalars(query)).one().balance -= 10

        failed = await bank.at_once(pay, pay)
        assert len(failed) == deadlocks
        assert (await bank.balances())[0] == 80 + 10 * deadlocks


async def _while_the_second_row_is_locked(
    bank: Bank, lock: str, *statements: tuple[Any, str]
) -> list[BaseException]:
    """Two statements, each with settings, of which each has its first row; what they raise."""

    async def execute(statement: Any, settings: str) -> None:
        async with bank.factory.begin() as session:
            await session.execute(text(settings))
            await session.execute(statement)

    works = []
    async with asyncio.timeout(60):
        async with bank.factory.begin() as gate:
            await gate.execute(text(lock))
            for each in statements:
                works.append(asyncio.create_task(execute(*each)))
                while await bank.database.fetchval(WAITING, bank.database.name) < len(works):
                    await asyncio.sleep(0.01)
        ended = await asyncio.gather(*works, return_exceptions=True)
    return [each for each in ended if isinstance(each, BaseException)]


def _states(failed: list[BaseException]) -> list[Any]:
    return [getattr(getattr(each, "orig", None), "sqlstate", None) for each in failed]


LOCK = "SELECT * FROM accounts WHERE id = 2 FOR UPDATE"


@pytest.mark.parametrize(("other", "deadlocks"), [((1, 2, 3), 0), ((3, 2, 1), 1)])
@pytest.mark.parametrize("update", [True, False])
async def test_an_insert_locks_keys_in_the_order_of_its_list(
    database: Database, update: bool, other: tuple[int, ...], deadlocks: int
) -> None:
    def query(ids: tuple[int, ...]) -> Any:
        rows = insert(Account).values([{"id": each, "balance": 7} for each in ids])
        if not update:
            return rows.on_conflict_do_nothing()
        return rows.on_conflict_do_update(
            index_elements=[Account.id], set_={"balance": rows.excluded.balance}
        )

    async with _bank(database) as bank:
        lock = LOCK
        if not update:
            await database.execute("TRUNCATE accounts CASCADE")
            lock = "INSERT INTO accounts VALUES (2, 7)"
        works = ((query(ids), "SELECT 1") for ids in ((1, 2, 3), other))
        failed = await _while_the_second_row_is_locked(bank, lock, *works)
        assert _states(failed) == ["40P01"] * deadlocks, failed
        assert await bank.balances() == [7, 7, 7]


SETTINGS = "SELECT set_config('enable_bitmapscan', 'off', true), set_config('{}', 'off', true)"
SCAN, INDEX = SETTINGS.format("enable_indexscan"), SETTINGS.format("enable_seqscan")


@pytest.mark.parametrize(("settings", "deadlocks"), [((SCAN, SCAN), 0), ((SCAN, INDEX), 1)])
async def test_an_update_locks_rows_as_its_plan_finds_them(
    database: Database, settings: tuple[str, str], deadlocks: int
) -> None:
    query = text("UPDATE accounts SET balance = 7 WHERE id > 0")
    async with _bank(database) as bank:
        await database.execute("TRUNCATE accounts CASCADE")
        await database.execute("INSERT INTO accounts VALUES (3, 100), (2, 100), (1, 100)")
        works = [(query, each) for each in settings]
        failed = await _while_the_second_row_is_locked(bank, LOCK, *works)
        assert _states(failed) == ["40P01"] * deadlocks, failed
        assert await bank.balances() == [7, 7, 7]


async def test_a_task_that_waits_for_its_own_other_session_is_no_deadlock(
    database: Database,
) -> None:
    change = text("UPDATE accounts SET balance = 7 WHERE id = 1")
    async with _bank(database) as bank, bank.factory() as session:
        await session.execute(change)
        async with bank.factory() as second:
            await second.execute(text("SET lock_timeout = '300ms'"))
            with pytest.raises(DBAPIError) as caught:
                await second.execute(change)
    assert getattr(caught.value.orig, "sqlstate", None) == "55P03"


async def test_where_the_order_cannot_be_agreed_on_the_helper_tries_again(
    database: Database,
) -> None:
    retry = RuleFile.load("sqlalchemy-retry").block(correct=True)
    async with _bank(database) as bank:
        given = {"SessionFactory": bank.factory, "Order": None, "Product": None}
        helper = retry.run(**given).in_transaction

        async def change(*ids: int) -> None:
            async def work(session: AsyncSession) -> None:
                for each in ids:
                    query = text("UPDATE accounts SET balance = balance - 10 WHERE id = :id")
                    await session.execute(query, {"id": each})

            await helper(work)

        assert await bank.at_once(lambda: change(1, 2), lambda: change(2, 1)) == []
        assert await bank.balances() == [80, 80, 100]
