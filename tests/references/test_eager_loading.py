"""references/eager-loading.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import ForeignKey, event, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    contains_eager,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
)

from tests.references.harness import (
    LIMIT,
    rows_of,
    run,
)
from tests.services import Database


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    product: Mapped[Product] = relationship(lazy="raise")


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(lazy="raise")
    lines: Mapped[list[Line]] = relationship(lazy="raise")
    labels: Mapped[list[Label]] = relationship(lazy="raise")
    lazy_lines: Mapped[list[Line]] = relationship(viewonly=True)


# The orders lie in the table from the last to the first: what comes in their order was sorted.
FILL = """
INSERT INTO customers SELECT generate_series(1, 10);
INSERT INTO products SELECT generate_series(1, 3);
INSERT INTO orders (id, customer_id) SELECT number, number % 10 + 1 FROM generate_series(100, 1, -1) AS number;
INSERT INTO lines (order_id, product_id) SELECT orders.id, number % 3 + 1 FROM generate_series(1, 4) AS number, orders;
INSERT INTO labels (order_id) SELECT orders.id FROM orders, generate_series(1, 5);
INSERT INTO orders (id, customer_id) VALUES (101, 1);
"""


@dataclass
class Sent:
    """What an engine sent: its statements, and the rows that came back."""

    statements: list[str] = field(default_factory=list)
    rows: int = 0


def _listen(engine: AsyncEngine) -> Sent:
    sent = Sent()

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def _count(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.statements.append(statement)
        sent.rows += cursor.rowcount

    return sent


@asynccontextmanager
async def _session(database: Database, base: Any) -> AsyncIterator[tuple[AsyncSession, Sent]]:
    engine = create_async_engine(database.url())
    try:
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        if base is Base:
            await database.execute(FILL)
        async with asyncio.timeout(LIMIT), AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            yield session, _listen(engine)
    finally:
        await engine.dispose()


async def test_nested_relations_take_two_statements(database: Database) -> None:
    module = run("eager-loading", "orders_with_all", Order=Order, Line=Line)
    async with _session(database, Base) as (session, sent):
        orders = await module.orders_with_all(session)
        assert [order.customer.id for order in orders[:3]] == [2, 3, 4]
        assert [line.product.id for line in orders[0].lines] == [2, 3, 1, 2]
        assert (len(orders), orders[100].lines) == (101, [])
        assert len(sent.statements) == 2
        assert not any("LEFT" in each for each in sent.statements)
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            _ = orders[0].lazy_lines
        await session.rollback()  # its lock on the table
        await database.execute("ALTER TABLE orders ALTER customer_id DROP NOT NULL")
        await database.execute("INSERT INTO orders (id, customer_id) VALUES (102, NULL)")
        assert len(await module.orders_with_all(session)) == 101
        assert await database.fetchval("SELECT count(*) FROM orders") == 102


async def test_the_newest_lines_of_each_order_take_one_statement(database: Database) -> None:
    module = run("eager-loading", "newest_lines", Order=Order, Line=Line)
    async with _session(database, Base) as (session, sent):
        newest = await module.newest_lines(session, [1, 2, 101])
        assert {key: [line.id for line in lines] for key, lines in newest.items()} == {
            order_id: [
                row["id"]
                for row in await database.fetch(
                    "SELECT id FROM lines WHERE order_id = $1 ORDER BY id DESC LIMIT 3", order_id
                )
            ]
            for order_id in (1, 2, 101)
        }
        assert [len(lines) for lines in newest.values()] == [3, 3, 0]
        assert (len(sent.statements), sent.rows) == (1, 6)


async def test_counts_take_one_statement_and_load_no_line(database: Database) -> None:
    module = run("eager-loading", "orders_with_counts", Order=Order, Line=Line)
    async with _session(database, Base) as (session, sent):
        counted = await module.orders_with_counts(session)
        assert [count for _, count in counted] == [4] * 100 + [0]
        assert [order.id for order, _ in counted] == list(range(1, 102))
        assert (len(sent.statements), sent.rows) == (1, 101)


async def test_a_write_only_collection_is_never_loaded(database: Database) -> None:
    class Own(DeclarativeBase):
        pass

    module = run("eager-loading", "Sensor", Base=Own)
    async with _session(database, Own) as (session, sent):
        await database.execute("INSERT INTO sensors VALUES (1)")
        await database.execute(
            "INSERT INTO readings (sensor_id, value) SELECT 1, generate_series(1, 1000)"
        )
        indexed = await database.fetch(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'readings'"
        )
        assert any("(sensor_id)" in each["indexdef"] for each in indexed)
        sensor = await session.get(module.Sensor, 1)
        sent.statements.clear()
        await module.record(session, sensor, 7.5)
        assert len(sent.statements) == 1
        assert sent.statements[0].startswith("INSERT INTO readings")
        sent.rows = 0
        assert [each.value for each in await module.latest(session, sensor, 3)] == [7.5, 1000, 999]
        assert (len(sent.statements), sent.rows) == (2, 3)


HUNDRED = select(Order).where(Order.id <= 100)
CUSTOMER = HUNDRED.join(Order.customer).where(Customer.id > 0)
QUERIES: dict[str, Any] = {
    "`joinedload(Order.customer)`": HUNDRED.options(joinedload(Order.customer)),
    "`selectinload(Order.customer)`": HUNDRED.options(selectinload(Order.customer)),
    "`selectinload(Order.lines)`": HUNDRED.options(selectinload(Order.lines)),
    "`joinedload(Order.lines)`": HUNDRED.options(joinedload(Order.lines)),
    "`selectinload` of lines and of labels": HUNDRED.options(
        selectinload(Order.lines), selectinload(Order.labels)
    ),
    "`joinedload` of lines and of labels": HUNDRED.options(
        joinedload(Order.lines), joinedload(Order.labels)
    ),
    "`contains_eager(Order.customer)` after `join`": CUSTOMER.options(
        contains_eager(Order.customer)
    ),
}


async def test_the_table_says_how_many_statements_and_rows_each_option_takes(
    database: Database,
) -> None:
    said = {
        option: (int(re.findall(r"\d+", statements)[0]), int(rows.replace(",", "")))
        for option, statements, rows, _ in rows_of("eager-loading")
        if rows
    }
    assert set(said) == set(QUERIES)
    seen = {}
    async with _session(database, Base) as (session, sent):
        for option, query in QUERIES.items():
            sent.statements.clear()
            sent.rows = 0
            orders = (await session.scalars(query)).unique().all()
            assert len(orders) == 100
            seen[option] = (len(sent.statements), sent.rows)
            session.expunge_all()
    assert seen == said


async def test_raiseload_stops_what_the_query_does_not_name(database: Database) -> None:
    query = HUNDRED.options(selectinload(Order.lines), raiseload("*"))
    async with _session(database, Base) as (session, sent):
        orders = (await session.scalars(query)).all()
        assert len(orders[0].lines) == 4
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            _ = orders[0].lazy_lines
        assert len(sent.statements) == 2


async def test_filter_by_means_another_table_in_2_1(database: Database) -> None:
    joined = select(Order).join(Order.customer)
    async with _session(database, Base) as (session, _):
        named = (await session.scalars(joined.where(Customer.id == 2))).all()
        assert {order.customer_id for order in named} == {2}
        if sqlalchemy.__version__.startswith("2.0."):
            assert (await session.scalars(joined.filter_by(id=2))).all() == named
        else:
            with pytest.raises(InvalidRequestError, match="ambiguous") as raised:
                joined.filter_by(id=2)
            assert type(raised.value).__name__ == "AmbiguousColumnError"


async def test_a_filtered_collection_looks_like_a_whole_one(database: Database) -> None:
    query = HUNDRED.options(selectinload(Order.lines.and_(Line.product_id == 1)))
    async with _session(database, Base) as (session, _):
        order = (await session.scalars(query)).first()
        assert order
        assert (type(order.lines).__name__, len(order.lines)) == ("InstrumentedList", 1)


async def test_one_adds_to_a_list_only_after_it_was_loaded(database: Database) -> None:
    async with _session(database, Base) as (session, _):
        order = await session.get(Order, 1)
        assert order
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            order.lines.append(Line(product_id=1))


async def test_an_order_in_the_session_keeps_the_lines_that_it_has(database: Database) -> None:
    query = select(Order).where(Order.id == 1).options(selectinload(Order.lines))
    async with _session(database, Base) as (session, _):
        order = (await session.scalars(query)).one()
        assert len(order.lines) == 4
        await database.execute("INSERT INTO lines (order_id, product_id) VALUES (1, 1)")
        again = (await session.scalars(query)).one()
        assert again is order
        assert len(order.lines) == 4
        await session.scalars(query.execution_options(populate_existing=True))
        assert len(order.lines) == 5
