"""Behind PgBouncer in transaction mode only statements without a cache survive a switch."""

from __future__ import annotations

import gc
import traceback
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from tests.proofs.harness import Block, Witness
from tests.services import Database, PgBouncer

# From 0.31 on, asyncpg leaves a statement without a name where its cache is off.
NAMELESS = tuple(map(int, asyncpg.__version__.split(".")[:2])) >= (0, 31)
KNOWS_NAME_FUNC = sqlalchemy.__version__ != "2.0.0"
WARM, SWITCHED = 8, 10

OFF = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
UNIQUE = {"prepared_statement_name_func": lambda: f"__asyncpg_{uuid.uuid4()}__"}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


@pytest.fixture
async def orders(database: Database) -> Database:
    await database.execute("CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)")
    await database.execute("INSERT INTO orders VALUES (7, 1990)")
    return database


@pytest.fixture(autouse=True)
def _count_from_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg counts its statements from 1 in every process."""
    monkeypatch.setattr("asyncpg.connection._uid", 0)


@asynccontextmanager
async def _another_client(pgbouncer: PgBouncer, database: Database) -> AsyncIterator[Any]:
    """A client in a transaction: it has the server connection that was used last."""
    url = pgbouncer.url(database.name, None)
    connection = await asyncpg.connect(url, ssl=False, statement_cache_size=0, timeout=10)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except Exception as error:
        return error


async def _switch(ask: Any, pgbouncer: PgBouncer, database: Database) -> tuple[list[Any], int]:
    """The answers after a switch, and how many statements the other server connection keeps."""
    for _ in range(WARM):
        assert await ask() == 1990
    async with _another_client(pgbouncer, database) as client:
        left = await client.fetchval("SELECT count(*) FROM pg_prepared_statements")
        return [await _outcome(ask()) for _ in range(SWITCHED)], left


async def _block(
    block: Block, pgbouncer: PgBouncer, database: Database
) -> tuple[list[Any], int, Any]:
    """As `_switch`, and the answer in a second process; its error as a text."""
    module = block.run(url=pgbouncer.url(database.name), Order=Order)
    second = block.run(url=pgbouncer.url(database.name), Order=Order)
    try:
        answers, left = await _switch(lambda: module.order_amount(7), pgbouncer, database)
        asyncpg.connection._uid = 0  # as in another process
        with warnings.catch_warnings():
            # SQLAlchemy 2.0.0 forgets a connection whose set-up fails.
            warnings.simplefilter("ignore", ResourceWarning)
            answer = await _outcome(second.order_amount(7))
            if isinstance(answer, Exception):
                answer = "".join(traceback.format_exception(answer))
            gc.collect()
        return answers, left, answer
    finally:
        await module.engine.dispose()
        await second.engine.dispose()


async def test_incorrect_fails_after_the_switch_and_in_a_second_process(
    incorrect: Block, pgbouncer: PgBouncer, orders: Database, witness: Witness
) -> None:
    answers, left, second = await _block(incorrect, pgbouncer, orders)
    for answer in answers:
        assert isinstance(answer, sqlalchemy.exc.DBAPIError)
        assert "does not exist" in str(answer)
    assert left > 0
    assert "already exists" in second
    witness.saw(answers[0], second)
    witness.observed(
        incorrect="8 queries answered; 10 of 10 failed after PgBouncer's switch; "
        "a second process failed too"
    )


async def test_correct_answers_after_the_switch(
    correct: Block, pgbouncer: PgBouncer, orders: Database, witness: Witness
) -> None:
    answers, left, second = await _block(correct, pgbouncer, orders)
    assert answers == [1990] * SWITCHED
    if NAMELESS:
        assert (left, second) == (0, 1990)
    else:
        assert left == WARM
        assert "already exists" in second
    witness.observed(correct="8 queries and 10 after PgBouncer's switch answered")


async def _with(
    pgbouncer: PgBouncer, database: Database, driver: str = "asyncpg", **settings: Any
) -> tuple[list[Any], int]:
    """As `_switch`, over an engine with these settings, and a commit after each query."""
    engine = create_async_engine(pgbouncer.url(database.name, driver), **settings)

    async def ask() -> Any:
        async with engine.begin() as connection:
            query = text("SELECT amount FROM orders WHERE id = :id")
            return (await connection.execute(query, {"id": 7})).scalar_one()

    try:
        return await _switch(ask, pgbouncer, database)
    finally:
        await engine.dispose()


async def test_unique_names_leave_their_statements_behind_and_fail_on_a_pool(
    pgbouncer: PgBouncer, orders: Database
) -> None:
    if not KNOWS_NAME_FUNC:
        with pytest.raises(TypeError, match="prepared_statement_name_func"):
            await _with(pgbouncer, orders, connect_args=UNIQUE)
        return
    answers, left = await _with(pgbouncer, orders, poolclass=NullPool, connect_args=UNIQUE)
    assert (answers, left) == ([1990] * SWITCHED, 12)
    answers, _ = await _with(pgbouncer, orders, connect_args=UNIQUE)
    assert all("does not exist" in str(answer) for answer in answers)


async def test_a_pool_works_too_with_both_caches_off(
    pgbouncer: PgBouncer, orders: Database
) -> None:
    answers, _ = await _with(pgbouncer, orders, pool_size=1, max_overflow=0, connect_args=OFF)
    assert answers == [1990] * SWITCHED


async def test_psycopg_prepares_what_it_committed_often_unless_it_is_told_not_to(
    pgbouncer: PgBouncer, orders: Database, witness: Witness
) -> None:
    told = {"prepare_threshold": None}
    answers, left = await _with(pgbouncer, orders, "psycopg", connect_args=told)
    assert (answers, left) == ([1990] * SWITCHED, 0)
    answers, left = await _with(pgbouncer, orders, "psycopg")
    assert left == 1
    assert "does not exist" in str(answers[0])
    witness.saw(answers[0])


@pytest.mark.parametrize("name", ["statement_timeout", "jit", "application_name"])
async def test_most_server_settings_are_refused(
    pgbouncer: PgBouncer, orders: Database, witness: Witness, name: str
) -> None:
    settings = {"server_settings": {name: "0"}, **OFF}
    engine: AsyncEngine = create_async_engine(
        pgbouncer.url(orders.name), poolclass=NullPool, connect_args=settings
    )

    async def shown() -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(text(f"SHOW {name}"))).scalar_one()

    try:
        outcome = await _outcome(shown())
    finally:
        await engine.dispose()
    if name == "application_name":
        assert outcome == "0"
    else:
        assert f"unsupported startup parameter: {name}" in str(outcome)
        witness.saw(outcome)


@pytest.mark.parametrize(("statement", "next_client"), [("SET", "5s"), ("SET LOCAL", "0")])
async def test_only_set_local_ends_with_its_transaction(
    pgbouncer: PgBouncer, orders: Database, statement: str, next_client: str
) -> None:
    async with _another_client(pgbouncer, orders) as client:
        first = await client.fetchval("SELECT pg_backend_pid()")
        await client.execute(f"{statement} statement_timeout = '5s'")
    async with _another_client(pgbouncer, orders) as client:
        assert await client.fetchval("SELECT pg_backend_pid()") == first
        assert await client.fetchval("SHOW statement_timeout") == next_client
