"""A session of the whole process stays broken after one failure; one a request does not."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import requires, version
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import BigInteger, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving

LATER = 20


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)


@asynccontextmanager
async def _client(block: Block, engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the block's application, which gets a route whose query can fail."""
    module = block.run(engine=engine, Order=Order)

    app: FastAPI = module.app

    @app.get("/divided/{by}")
    async def divided(by: int, session: Any = module.Session.__metadata__[0]) -> Any:
        return await session.scalar(text("SELECT 10 / CAST(:by AS integer)"), {"by": by})

    try:
        async with (
            serving(app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=10) as client,
        ):
            yield client
    finally:
        if isinstance(getattr(module, "session", None), AsyncSession):
            await module.session.close()


async def _orders(block: Block, database: Database) -> tuple[list[int], Counter[int], int, int]:
    """The statuses of two equal orders, those of 20 later ones, all rows, connections kept."""
    async with engine_with(Base, database.url()) as engine, _client(block, engine) as client:
        twice = [(await client.post("/orders/7")).status_code for _ in range(2)]
        later = [(await client.post(f"/orders/{100 + n}")).status_code for n in range(LATER)]
        kept = engine.pool.checkedout()  # type: ignore[attr-defined]
    return twice, Counter(later), await database.fetchval("SELECT count(*) FROM orders"), kept


async def _divisions(block: Block, database: Database) -> list[int]:
    """The statuses of a query that fails and of two that do not."""
    async with engine_with(Base, database.url()) as engine, _client(block, engine) as client:
        return [(await client.get(f"/divided/{by}")).status_code for by in (0, 1, 2)]


async def test_incorrect_fails_every_request_after_one_failed_flush(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    twice, later, rows, kept = await _orders(incorrect, database)
    assert (twice, later, rows, kept) == ([200, 500], {500: LATER}, 1, 1)
    witness.observed(incorrect="after one duplicate order, 20 of 20 later requests got 500")


async def test_incorrect_keeps_a_failed_transaction_open_for_every_later_request(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert await _divisions(incorrect, database) == [500, 500, 500]


REFUSE_13 = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no order 13'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (new.number = 13) EXECUTE FUNCTION refuse();
"""


async def test_correct_answers_500_where_the_commit_fails_and_has_a_factory_for_others(
    correct: Block, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine:
        async with _client(correct, engine) as client:
            await database.execute(REFUSE_13)
            answers = [await client.post(f"/orders/{number}") for number in (12, 13)]
            assert [answer.status_code for answer in answers] == [200, 500]
            assert answers[0].json() == {"id": 1}
        module = correct.run(engine=engine, Order=Order)
        async with module.SessionFactory.begin() as session:
            order = Order(number=7)
            session.add(order)
        assert order.number == 7
    rows = await database.fetch("SELECT number FROM orders ORDER BY id")
    assert [row["number"] for row in rows] == [12, 7]


async def test_correct_fails_only_the_request_that_failed(
    correct: Block, database: Database, witness: Witness
) -> None:
    twice, later, rows, kept = await _orders(correct, database)
    assert (twice, later, rows, kept) == ([200, 500], {200: LATER}, 1 + LATER, 0)
    assert await _divisions(correct, database) == [500, 200, 200]
    witness.observed(correct="after one duplicate order, 20 of 20 later requests got 200")


async def test_a_savepoint_lets_a_session_go_on_after_an_error(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Order(number=1))
            await session.flush()
            with pytest.raises(IntegrityError):
                async with session.begin_nested():
                    session.add(Order(number=1))
            session.add(Order(number=2))
        assert await database.fetchval("SELECT count(*) FROM orders") == 2

        async with AsyncSession(engine) as session:
            session.add(Order(number=1))
            with pytest.raises(IntegrityError):
                await session.flush()
            with pytest.raises(PendingRollbackError):
                await session.scalar(text("SELECT 1"))


async def test_a_scoped_session_is_kept_until_it_is_removed(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine:
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)

        async def work(*, remove: bool) -> int:
            value = int(await scoped.scalar(text("SELECT 1")) or 0)
            if remove:
                await scoped.remove()
            return value

        async with asyncio.timeout(10):
            for remove in (True, False):
                await asyncio.gather(*(work(remove=remove) for _ in range(3)))
                kept = list(scoped.registry.registry.values())
                assert len(kept) == engine.pool.checkedout() == (0 if remove else 3)  # type: ignore[attr-defined]
        for session in kept:
            await session.close()


WITHOUT_GREENLET = """
import asyncio, sys
sys.modules["greenlet"] = None
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    async with create_async_engine(sys.argv[1]).connect():
        print("connected")
asyncio.run(main())
"""


def test_nothing_works_without_greenlet(database: Database, witness: Witness) -> None:
    command = [sys.executable, "-c", WITHOUT_GREENLET, database.url()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "greenlet" in done.stderr.splitlines()[-1]
    witness.saw(done.stderr)
    name = "sqlalchemy"
    greenlet = [line for line in requires(name) or () if line.startswith("greenlet")]
    by_extra = all("extra ==" in line for line in greenlet)
    assert by_extra is not version(name).startswith("2.0.")
