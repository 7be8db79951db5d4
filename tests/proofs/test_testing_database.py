"""Only a transaction around all sessions of a test undoes what the application commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Response
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.suites import one_test
from tests.proofs.tables import engine_with
from tests.services import Database


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)


COUNT = select(func.count(Order.number))


@dataclass
class Shop:
    """An application, and what its tests know of it."""

    app: FastAPI
    engine: AsyncEngine
    SessionFactory: async_sessionmaker[AsyncSession]
    get_session: Any
    seen: list[int]
    """The orders that a background task found."""

    def fixtures(self, block: Block) -> Any:
        return block.run(**{name: getattr(self, name) for name in block.given})

    async def outside(self) -> int:
        """The orders that everybody sees."""
        async with self.engine.connect() as connection:
            return (await connection.execute(COUNT)).scalar_one()


@asynccontextmanager
async def _shop(database: Database) -> AsyncIterator[Shop]:
    async with engine_with(Base, database.url()) as engine:
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        app = FastAPI()
        seen: list[int] = []

        async def get_session() -> AsyncIterator[AsyncSession]:
            async with sessions() as session:
                yield session

        async def get_committing() -> AsyncIterator[AsyncSession]:
            async with sessions.begin() as session:
                yield session

        own: Any = Depends(get_session)
        committing: Any = Depends(get_committing, scope="function")

        @app.post("/orders/{number}", status_code=201)
        async def create(number: int, session: Any = own) -> None:
            session.add(Order(number=number))
            await session.commit()

        @app.post("/claims/{number}", status_code=201)
        async def claim(number: int, response: Response, session: Any = own) -> None:
            try:
                session.add(Order(number=number))
                await session.commit()
            except IntegrityError:
                await session.rollback()
                response.status_code = 409

        @app.post("/forgotten/{number}", status_code=201)
        async def forget(number: int, session: Any = own) -> None:
            session.add(Order(number=number))
            await session.flush()

        @app.post("/told/{number}", status_code=201)
        async def tell(number: int, tasks: BackgroundTasks, session: Any = committing) -> None:
            session.add(Order(number=number))

            async def look() -> None:
                async with sessions() as another:
                    seen.append((await another.execute(COUNT)).scalar_one())

            tasks.add_task(look)

        @app.get("/orders/count")
        async def count(session: Any = own) -> int:
            return int((await session.execute(COUNT)).scalar_one())

        yield Shop(app, engine, sessions, get_session, seen)


async def _two_equal_tests(block: Block, shop: Shop) -> list[int]:
    module = shop.fixtures(block)
    statuses = []
    for _ in range(2):
        async with one_test(module, "client") as given:
            answer = await given["client"].post("/orders/7")
            assert answer.request.url.host == "test"
            statuses.append(answer.status_code)
            assert (await given["client"].get("/orders/count")).json() == 1
        assert given["client"].is_closed
    return statuses


async def test_incorrect_leaves_the_row_to_the_next_test(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _shop(database) as shop:
        with pytest.raises(IntegrityError) as failed:
            await _two_equal_tests(incorrect, shop)
        assert await shop.outside() == 1
    witness.saw(failed.value)
    witness.observed(incorrect="two tests that post order 7: duplicate key, and 1 row in the end")


async def test_correct_undoes_what_the_routes_commit(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _shop(database) as shop:
        assert await _two_equal_tests(correct, shop) == [201, 201]
        assert await shop.outside() == 0
        pool: Any = shop.engine.pool
        assert pool.checkedout() == 0
        # After the tests the factory is what it was.
        transport = httpx.ASGITransport(shop.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/orders/7")).status_code == 201
        assert await shop.outside() == 1
    witness.observed(correct="two tests that post order 7: 201 and 201, and no row in the end")


async def test_the_commit_of_the_dependency_runs_and_a_background_task_sees_the_row(
    correct: Block, database: Database
) -> None:
    async with _shop(database) as shop:
        async with one_test(shop.fixtures(correct), "client") as given:
            assert (await given["client"].post("/told/7")).status_code == 201
            assert shop.seen == [1]
            assert await shop.outside() == 0
        assert await shop.outside() == 0


async def test_a_forgotten_commit_is_seen(correct: Block, database: Database) -> None:
    async with _shop(database) as shop, one_test(shop.fixtures(correct), "client") as given:
        assert (await given["client"].post("/forgotten/7")).status_code == 201
        assert (await given["client"].get("/orders/count")).json() == 0


async def test_one_session_for_all_hides_a_forgotten_commit(database: Database) -> None:
    block = RuleFile.load("testing-database").block(correct=False)
    async with _shop(database) as shop:
        async with one_test(shop.fixtures(block), "client") as given:
            assert (await given["client"].post("/forgotten/7")).status_code == 201
            assert (await given["client"].get("/orders/count")).json() == 1
        assert await shop.outside() == 0


async def _with_a_refused_one(block: Block, shop: Shop) -> tuple[list[int], int, int]:
    """The statuses, the rows that the test finds, and the rows that are there after it."""
    async with one_test(shop.fixtures(block), "client") as given:
        client = given["client"]
        paths = ("/claims/7", "/claims/7", "/claims/8")
        statuses = [(await client.post(path)).status_code for path in paths]
        found = (await client.get("/orders/count")).json()
    return statuses, found, await shop.outside()


async def test_a_rollback_of_the_app_ends_only_its_savepoint(
    correct: Block, database: Database
) -> None:
    async with _shop(database) as shop:
        assert await _with_a_refused_one(correct, shop) == ([201, 409, 201], 2, 0)


@pytest.mark.filterwarnings("ignore:transaction already deassociated")
async def test_without_savepoints_it_ends_the_transaction_of_the_test(database: Database) -> None:
    block = RuleFile.load("testing-database").block(correct=True)
    mode = ', join_transaction_mode="create_savepoint"'
    assert mode in block.code
    default = replace(block, code=block.code.replace(mode, ""))
    async with _shop(database) as shop:
        assert await _with_a_refused_one(default, shop) == ([201, 409, 201], 1, 1)


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")
async def test_requests_at_once_break_the_savepoints_of_each_other(
    database: Database, witness: Witness
) -> None:
    block = RuleFile.load("testing-database").block(correct=True)
    async with _shop(database) as shop, one_test(shop.fixtures(block), "client") as given:
        ended = await asyncio.gather(
            *(given["client"].post(f"/orders/{number}") for number in range(5)),
            return_exceptions=True,
        )
    failed = [each for each in ended if isinstance(each, BaseException)]
    assert failed
    assert "current transaction is aborted" in "".join(map(str, failed))
    witness.saw(*failed)


async def test_what_a_savepoint_hides(database: Database) -> None:
    block = RuleFile.load("testing-database").block(correct=True)
    now = func.now()
    async with _shop(database) as shop:
        await database.execute(
            "ALTER TABLE orders ADD COLUMN parent int REFERENCES orders"
            " DEFERRABLE INITIALLY DEFERRED DEFAULT 1;"
            "CREATE SEQUENCE ids"
        )
        async with one_test(shop.fixtures(block), "client") as given:
            assert (await given["client"].post("/orders/7")).status_code == 201
            async with shop.SessionFactory() as session:
                first = await session.scalar(select(now))
                assert await session.scalar(select(func.nextval("ids"))) == 1
                await session.commit()
            async with shop.SessionFactory() as session:
                assert await session.scalar(select(now)) == first
        async with shop.SessionFactory() as session:
            assert await session.scalar(select(func.nextval("ids"))) == 2
            session.add(Order(number=7))
            with pytest.raises(IntegrityError, match="foreign key"):
                await session.commit()


async def test_a_database_for_each_test_is_a_copy_of_a_template(database: Database) -> None:
    async with engine_with(Base, database.url()):
        pass  # the migrations, whose engine is disposed of
    async with _copy(database) as first, _copy(database) as second:
        assert await first.execute("INSERT INTO orders VALUES (7)") == "INSERT 0 1"
        assert await second.fetchval("SELECT count(*) FROM orders") == 0


@asynccontextmanager
async def _copy(template: Database) -> AsyncIterator[Database]:
    copy = template.server.create_database(template=template.name)
    try:
        yield copy
    finally:
        copy.drop()
