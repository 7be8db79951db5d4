"""Pages by the key of the last row neither repeat nor leave out a row of a table that changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, ForeignKey, Index, Select, delete, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    contains_eager,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (Index("orders_newest", "created", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state: Mapped[str] = mapped_column(default="open")
    lines: Mapped[list[Line]] = relationship(lazy="raise")


# The newest 10 of 300 orders are 1 to 10; where the times are equal, the higher id is the newer.
NEWEST = sorted(range(1, 301), key=lambda n: ((300 - n) // 10, n), reverse=True)

Sessions = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def _sessions(
    database: Database, orders: int = 300, same: int = 10
) -> AsyncIterator[Sessions]:
    """A factory, over a database with so many orders: the first is the newest, `same` of a time."""
    async with engine_with(Base, database.url()) as engine, engine.connect() as connection:
        await connection.execute(
            text(
                "INSERT INTO orders (id, created, state) "
                "SELECT n, CAST(:now AS timestamptz) + (:orders - n) / :same * interval '1 ms', 'open'"
                " FROM generate_series(1, :orders) n ORDER BY md5(n::text)"
            ),
            {"now": NOW, "orders": orders, "same": same},
        )
        await connection.execute(
            text("SELECT setval('orders_id_seq', :orders)"), {"orders": orders}
        )
        await connection.commit()
        await connection.execute(text("ANALYZE orders"))
        yield async_sessionmaker(engine, expire_on_commit=False)


def _ids(orders: Sequence[Any]) -> list[int]:
    return [order.id for order in orders]


def _key(order: Any) -> tuple[datetime, int]:
    return order.created, order.id


async def _change(sessions: Sessions, change: str) -> None:
    async with sessions.begin() as session:
        if change == "add":
            session.add(Order(created=NOW + timedelta(hours=1)))
        else:
            await session.execute(delete(Order).where(Order.id == 5))


async def test_incorrect_repeats_one_order_and_leaves_out_another(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    page = incorrect.run(Order=Order).page
    async with _sessions(database, same=1) as sessions, sessions() as session:
        first = _ids(await page(session))
        await _change(sessions, "add")
        second = _ids(await page(session, 1))
        assert len(set(first) & set(second)) == 1
        first = _ids(await page(session))
        await _change(sessions, "delete")
        second = _ids(await page(session, 1))
        assert len(set(first) | set(second)) == 200
        seen = {*first, *second, *_ids(await page(session, 2)), *_ids(await page(session, 3))}
        assert len(set(range(1, 302)) - seen) == 1
    witness.observed(incorrect="one order added: 1 repeated; one order deleted: 1 left out")


async def test_correct_gives_each_order_once(
    correct: Block, database: Database, witness: Witness
) -> None:
    page = correct.run(Order=Order).page
    async with _sessions(database) as sessions, sessions() as session:
        for change in "add", "delete":
            orders = await page(session)
            seen = _ids(orders)
            before = set(await session.scalars(select(Order.id)))
            await _change(sessions, change)
            while len(orders) == 100:
                moment, number = _key(orders[-1])
                sent = datetime.fromisoformat(moment.isoformat())  # as a client sends it back
                orders = await page(session, (sent, number))
                seen += _ids(orders)
            assert len(seen) == len(before)
            assert set(seen) == before
            assert seen == [n for n in [301, *NEWEST] if n in before]
    witness.observed(correct="each of the orders once, after an insert and after a delete")


async def test_the_first_page_has_the_100_newest(correct: Block, database: Database) -> None:
    page = correct.run(Order=Order).page
    async with _sessions(database) as sessions, sessions() as session:
        assert _ids(await page(session)) == NEWEST[:100]
        middle = await session.get(Order, NEWEST[154])
        assert _ids(await page(session, _key(middle))) == NEWEST[155:255]


async def test_by_the_time_alone_the_rest_of_a_time_is_lost(database: Database) -> None:
    query = select(Order).order_by(Order.created.desc(), Order.id.desc()).limit(95)
    async with _sessions(database) as sessions, sessions() as session:
        first = (await session.scalars(query)).all()
        second = (await session.scalars(query.where(Order.created < first[-1].created))).all()
        # The page ends at 96 of the ten from 100 to 91; the time alone leaves out the other five.
        assert (first[-1].id, second[0].id) == (96, 110)


async def test_a_row_without_a_time_is_on_no_page_after_the_first(database: Database) -> None:
    query = select(Order).order_by(Order.created, Order.id).limit(100)
    async with _sessions(database) as sessions, sessions() as session:
        session.add(Order(created=None))
        await session.flush()
        orders = (await session.scalars(query)).all()
        seen: list[int] = []
        while orders:
            seen += _ids(orders)
            after = tuple_(Order.created, Order.id) > _key(orders[-1])
            orders = (await session.scalars(query.where(after))).all()
        assert seen == NEWEST[::-1]


async def _entries_read(database: Database, query: Select[Any]) -> int:
    """The rows that the scan below the limit has given."""
    compiled = query.compile(compile_kwargs={"literal_binds": True})
    found = await database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")
    (scan,) = json.loads(found)[0]["Plan"]["Plans"]
    assert scan["Index Name"] == "orders_newest"
    return int(scan["Actual Rows"])


async def test_offset_reads_what_it_skips(database: Database) -> None:
    query = select(Order.id).order_by(Order.created.desc(), Order.id.desc()).limit(100)
    async with _sessions(database, 20_000) as sessions, sessions() as session:
        after = tuple_(Order.created, Order.id) < _key(await session.get(Order, 9_991))
        assert await _entries_read(database, query.offset(10_000)) == 10_100
        assert await _entries_read(database, query.where(after)) == 100
        assert (await session.scalars(query.offset(10_000))).all() == (
            await session.scalars(query.where(after))
        ).all()


async def _still_open(sessions: Sessions) -> int:
    async with sessions() as session:
        query = select(func.count()).where(Order.state == "open")
        return int(await session.scalar(query) or 0)


async def test_a_job_by_offset_skips_what_it_has_not_closed(database: Database) -> None:
    opened = select(Order).where(Order.state == "open").order_by(Order.id).limit(100)
    async with _sessions(database, 1_000) as sessions:
        for number in range(10):
            async with sessions.begin() as session:
                for order in await session.scalars(opened.offset(number * 100)):
                    order.state = "closed"
        assert await _still_open(sessions) == 500
        last = 0
        for _ in range(6):
            async with sessions.begin() as session:
                orders = (await session.scalars(opened.where(Order.id > last))).all()
                for order in orders:
                    order.state, last = "closed", order.id
        assert await _still_open(sessions) == 0


async def test_a_reader_upwards_misses_what_commits_late(database: Database) -> None:
    async with _sessions(database, 10) as sessions, sessions() as late, sessions() as reader:
        late.add(Order(created=NOW))
        await late.flush()
        async with sessions.begin() as session:
            session.add(Order(created=NOW))
        newer = select(Order.id).order_by(Order.id)
        assert (await reader.scalars(newer.where(Order.id > 10))).all() == [12]
        await late.commit()
        assert (await reader.scalars(newer.where(Order.id > 12))).all() == []
        assert await reader.scalar(select(Order.id).where(Order.id == 11)) == 11


async def test_a_limit_counts_the_rows_of_a_join(database: Database) -> None:
    newest = select(Order).order_by(Order.id.desc()).limit(10)
    async with _sessions(database, 50) as sessions:

        async def loaded(query: Any) -> list[Order]:
            async with sessions() as session:
                return list((await session.scalars(query)).unique().all())

        async with sessions.begin() as session:
            session.add_all(Line(order_id=n) for n in range(1, 51) for _ in range(4))
        assert len(await loaded(newest.join(Order.lines))) == 3
        cut = await loaded(newest.join(Order.lines).options(contains_eager(Order.lines)))
        assert [len(order.lines) for order in cut] == [4, 4, 2]
        for whole in (
            newest.where(Order.lines.any()).options(selectinload(Order.lines)),
            newest.options(joinedload(Order.lines)),
        ):
            assert [len(order.lines) for order in await loaded(whole)] == [4] * 10
