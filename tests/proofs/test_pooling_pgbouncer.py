"""Behind PgBouncer in transaction mode cached statements survive a switch only since 1.21."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import traceback
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from tests.proofs.harness import Block, Witness
from tests.services import Database, PgBouncer, Postgres

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
    await database.execute("INSERT INTO orders VALUES (5, 20), (7, 1990)")
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


def _run(block: Block, pgbouncer: PgBouncer, database: Database, follows: bool = False) -> Any:
    given = {"url": pgbouncer.url(database.name), "Order": Order, "follows_statements": follows}
    return block.run(**{name: given[name] for name in block.given})


async def _block(
    block: Block, pgbouncer: PgBouncer, database: Database
) -> tuple[list[Any], int, Any]:
    """As `_switch`, and the answer in a second process; its error as a text."""
    module = _run(block, pgbouncer, database)
    second = _run(block, pgbouncer, database)
    try:
        answers, left = await _switch(lambda: module.order_amount(7), pgbouncer, database)
        asyncpg.connection._uid = 0  # as in another process
        with warnings.catch_warnings():
            # SQLAlchemy 2.0.0 forgets a connection whose set-up fails.
            warnings.simplefilter("ignore", ResourceWarning)
            answer = 1990
            for _ in range(2 * WARM):  # until it comes to a name that the first one has used
                if answer == 1990:
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
        incorrect="PgBouncer before 1.21: 8 queries answered; 10 of 10 failed after its switch; "
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
        assert left > 0
        assert "already exists" in second
    witness.observed(
        correct="PgBouncer before 1.21, caches off, and since 1.21, caches on or off: "
        "8 queries and 10 after its switch answered"
    )


@pytest.mark.parametrize("follows", [False, True])
async def test_correct_answers_after_the_switch_of_a_current_pgbouncer(
    correct: Block, pgbouncer_current: PgBouncer, orders: Database, follows: bool
) -> None:
    module = _run(correct, pgbouncer_current, orders, follows)
    try:
        answers, left = await _switch(lambda: module.order_amount(7), pgbouncer_current, orders)
    finally:
        await module.engine.dispose()
    assert answers == [1990] * SWITCHED
    assert bool(left) is follows or not NAMELESS
    assert module.engine.pool.size() + module.engine.pool._max_overflow == 10


@pytest.fixture
def small(postgres: Postgres) -> Iterator[PgBouncer]:
    """A PgBouncer that takes 20 clients, and gives a query a second to wait for one connection."""
    settings = {"max_client_conn": 20, "query_wait_timeout": 1}
    with PgBouncer(postgres, pool_size=1, settings=settings) as server:
        yield server


async def test_correct_keeps_below_what_pgbouncer_takes_and_a_null_pool_does_not(
    correct: Block, small: PgBouncer, orders: Database, witness: Witness
) -> None:
    module = _run(correct, small, orders)

    async def all_at_once() -> list[Any]:
        async with asyncio.timeout(30):
            asking = (_outcome(module.order_amount(7)) for _ in range(40))
            return await asyncio.gather(*asking)

    try:
        assert await all_at_once() == [1990] * 40
    finally:
        await module.engine.dispose()
    engine = create_async_engine(small.url(orders.name), poolclass=NullPool, connect_args=OFF)
    module.SessionFactory.configure(bind=engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        answers = await all_at_once()
        refused = [each for each in answers if each != 1990]
        assert refused
        texts = ["".join(traceback.format_exception(each)) for each in refused]
        assert all("no more connections allowed" in each for each in texts)
        witness.saw(texts[0])
        del answers, refused
        gc.collect()


async def test_a_query_waits_in_pgbouncer_for_its_own_limit(
    small: PgBouncer, orders: Database, witness: Witness
) -> None:
    async with _another_client(small, orders):
        client = await asyncpg.connect(
            small.url(orders.name, None), ssl=False, statement_cache_size=0, timeout=10
        )
        # asyncpg 0.29 only says that the connection was closed.
        expected = "query_wait_timeout" if NAMELESS else "connection was closed"
        with pytest.raises(asyncpg.PostgresError, match=expected) as raised:
            await client.execute("SELECT 7")
        witness.saw(raised.value)
        client.terminate()


@pytest.fixture
def administered(postgres: Postgres) -> Iterator[PgBouncer]:
    """A current PgBouncer whose console takes commands."""
    with tempfile.NamedTemporaryFile("w", dir="/tmp", suffix=".txt") as users:
        users.write('"postgres" ""\n')
        users.flush()
        Path(users.name).chmod(0o644)
        settings = {"auth_type": "trust", "auth_file": users.name, "admin_users": "postgres"}
        with PgBouncer(postgres, release="current", settings=settings) as server:
            yield server


def _admin(pgbouncer: PgBouncer, command: str) -> list[Any]:
    with psycopg.connect(pgbouncer.url("pgbouncer", None), autocommit=True) as connection:
        cursor = connection.execute(command.encode())
        return cursor.fetchall() if cursor.description else []


async def _after_a_migration(ask: Any, pgbouncer: PgBouncer, database: Database) -> list[Any]:
    """The answers after the column has changed, three before a RECONNECT and one after it."""
    for _ in range(WARM):
        assert await ask() == 1990
    await database.execute("ALTER TABLE orders ALTER amount TYPE bigint")
    answers = [await _outcome(ask()) for _ in range(3)]
    await asyncio.to_thread(_admin, pgbouncer, "RECONNECT")
    return [*answers, await _outcome(ask())]


async def test_correct_answers_after_a_migration_where_its_caches_are_off(
    correct: Block, administered: PgBouncer, orders: Database
) -> None:
    module = _run(correct, administered, orders)
    try:
        *answers, last = await _after_a_migration(
            lambda: module.order_amount(7), administered, orders
        )
    finally:
        await module.engine.dispose()
    assert last == 1990
    assert module.engine.pool._max_overflow == 0
    if NAMELESS:
        assert answers == [1990] * 3
    else:
        assert all("cached statement plan is invalid" in str(each) for each in answers)


async def test_cached_statements_fail_after_a_migration_until_pgbouncer_reconnects(
    administered: PgBouncer, orders: Database, witness: Witness
) -> None:
    engine = create_async_engine(administered.url(orders.name), pool_size=1)

    async def ask() -> Any:
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT amount FROM orders WHERE id = 7"))

    try:
        *failed, last = await _after_a_migration(ask, administered, orders)
    finally:
        await engine.dispose()
    assert last == 1990
    assert all("cached statement plan is invalid" in str(each) for each in failed)
    witness.saw(failed[0])


async def test_a_current_pgbouncer_follows_200_statements_by_default_and_none_with_0(
    pgbouncer_current: PgBouncer, postgres: Postgres, orders: Database
) -> None:
    settings = {name: value for name, value, *_ in _admin(pgbouncer_current, "SHOW CONFIG")}
    assert settings["query_wait_timeout"] == "120"
    if pgbouncer_current.version >= "1.24":
        assert settings["max_prepared_statements"] == "200"
    off = {"max_prepared_statements": 0}
    with PgBouncer(postgres, release="current", settings=off) as server:
        answers, _ = await _with(server, orders, pool_size=1)
    assert all("does not exist" in str(answer) for answer in answers)


async def test_psycopgs_prepared_statements_work_with_a_current_pgbouncer(
    pgbouncer_current: PgBouncer, orders: Database
) -> None:
    answers, left = await _with(pgbouncer_current, orders, "psycopg")
    assert (answers, left) == ([1990] * SWITCHED, 1)


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
