"""Every block of seven references is run, and does what the sentences around it say."""

from __future__ import annotations

import ast
import asyncio
import gc
import heapq
import importlib
import io
import logging
import random
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
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
from starlette.exceptions import HTTPException

from packlore.model import tokens
from packlore.parse import parse
from tests.blocks import python_blocks
from tests.proofs.harness import ROOT, Block, RuleFile
from tests.services import Database, PgBouncer, serving

NAMES = (
    "eager-loading",
    "fastapi-app-boilerplate",
    "fastapi-integration",
    "middleware-stack",
    "pool-sizing",
    "semaphore-patterns",
    "taskgroup-patterns",
)
PATHS = {name: ROOT / "references" / f"{name}.md" for name in NAMES}
BLOCKS = {name: [block for block, _ in python_blocks(path)] for name, path in PATHS.items()}
RULES = {path.stem for path in (ROOT / "rules").glob("[!_]*.md")}
LIMIT = 30  # seconds for whatever must end
RAN: set[tuple[str, int]] = set()


def find(name: str, defines: str) -> Block:
    """The one block of a reference that defines this name. It counts as run."""
    pattern = rf"^(?:(?:async )?def|class) {defines}\b|^{defines} = "
    (block,) = (each for each in BLOCKS[name] if re.search(pattern, each.code, re.MULTILINE))
    RAN.add((name, block.line))
    return block


def run(name: str, defines: str, **given: Any) -> Any:
    """The block that defines this name, run as a module."""
    return find(name, defines).run(**given)


def rows_of(name: str) -> list[list[str]]:
    """The cells of the rows of a reference's first table."""
    table = re.search(r"(?:^\|.*\n)+", PATHS[name].read_text("utf-8"), re.MULTILINE)
    assert table
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def forever() -> Any:
    await asyncio.Event().wait()


@dataclass
class Ended:
    """A call that waits for ever, and remembers that it ended."""

    started: bool = False
    ended: bool = False

    async def __call__(self) -> Any:
        self.started = True
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            self.ended = True


@dataclass
class Busy:
    """Work that waits until it is let go, and counts how much of it runs at once."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    active: int = 0
    peak: int = 0
    done: int = 0

    async def __call__(self, *_: object) -> str:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await self.go.wait()
        finally:
            self.active -= 1
        self.done += 1
        return "done"


async def until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def turns(number: int = 20) -> None:
    """Let the loop turn, so that whatever can run has run."""
    for _ in range(number):
        await asyncio.sleep(0)


# Each file


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_short_and_names_rules_that_exist(name: str) -> None:
    parsed = parse(PATHS[name].read_bytes().decode(), PATHS[name].name)
    header = parsed.frontmatter
    assert set(header) == {"title", "category", "tags", "rules"}
    assert header["category"] in {"asyncio", "fastapi", "sqlalchemy", "pooling"}
    assert isinstance(header["rules"], list)
    assert set(header["rules"]) <= RULES
    first, *_ = parsed.sections
    assert (first.level, first.title) == (1, header["title"])
    body = PATHS[name].read_text("utf-8").split("\n---\n", 1)[1]
    assert tokens(body) <= 1260
    named = set(re.findall(r"`((?:asyncio|fastapi|sqlalchemy|pooling)-[a-z-]+)`", body))
    assert named <= RULES
    # What is said right before a block names the rule behind it.
    for before in re.split(r"^```\w*\n.*?^```$", body, flags=re.MULTILINE | re.DOTALL)[:-1]:
        assert set(re.findall(r"`([\w-]+)`", before)) & RULES or name == "fastapi-app-boilerplate"


# taskgroup-patterns


async def test_a_group_gives_results_in_the_order_of_the_calls() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    ended: list[int] = []

    async def charge(place: int) -> str:
        await gates[place].wait()
        ended.append(place)
        if place:
            gates[place - 1].set()
        return f"receipt {place}"

    gates[2].set()
    module = RuleFile.load("asyncio-taskgroup").block(correct=True).run(charge=charge)
    receipts = await asyncio.wait_for(module.charge_all([0, 1, 2]), LIMIT)
    assert ended == [2, 1, 0]
    assert receipts == ["receipt 0", "receipt 1", "receipt 2"]


async def test_what_is_ready_in_time_stands_at_its_place_and_the_late_ones_have_ended() -> None:
    late = Ended()

    async def soon() -> str:
        await asyncio.sleep(0)
        return "soon"

    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    async with asyncio.timeout(LIMIT):
        assert await ready_in_time([soon, late, soon], 0.5) == ["soon", None, "soon"]
    assert late.ended


async def test_a_timeout_of_a_call_is_not_taken_for_the_deadline() -> None:
    async def times_out() -> None:
        raise TimeoutError

    late = Ended()
    ready_in_time = run("taskgroup-patterns", "ready_in_time").ready_in_time
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(ready_in_time([late, times_out], LIMIT), LIMIT)
    assert isinstance(caught.value.exceptions[0], TimeoutError)
    assert late.ended

    async def suppressed() -> str:
        with suppress(TimeoutError):
            async with asyncio.TaskGroup() as group:
                group.create_task(times_out())
        return "hidden"

    if sys.version_info >= (3, 12):
        assert await suppressed() == "hidden"
    else:
        with pytest.raises(ExceptionGroup):
            await suppressed()


async def _answers() -> str:
    await asyncio.sleep(0)
    return "answer"


async def _fails() -> str:
    await asyncio.sleep(0)
    raise ConnectionError("refused")


async def test_the_first_success_ends_the_others() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    slow = Ended()
    async with asyncio.timeout(LIMIT):
        assert await first_success([slow, _answers], 0.05) == "answer"
    assert slow.ended


async def test_the_next_call_starts_at_once_after_a_failure_and_never_after_a_success() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    never = Ended()
    async with asyncio.timeout(LIMIT):
        assert await first_success([_fails, _answers, never], delay=10 * LIMIT) == "answer"
    assert not never.started


async def test_where_no_call_succeeds_all_errors_come_out() -> None:
    first_success = run("taskgroup-patterns", "first_success").first_success
    with pytest.raises(ExceptionGroup, match="no call succeeded") as caught:
        await asyncio.wait_for(first_success([_fails, _fails, _fails], 10 * LIMIT), LIMIT)
    assert [str(error) for error in caught.value.exceptions] == ["refused"] * 3


async def test_a_supervised_service_starts_again_after_pauses_that_double(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = run("taskgroup-patterns", "supervise")
    starts = 0

    async def refresh() -> None:
        nonlocal starts
        starts += 1
        if starts <= 4:
            raise ConnectionError
        await forever()

    steady = Ended()
    services = {"refresh": refresh, "steady": steady}
    async with module.running(services, pause=0.001, longest=0.004):
        await until(lambda: starts == 5)
        assert not steady.ended
    assert steady.ended
    assert [record.getMessage() for record in caplog.records] == [
        f"refresh failed, next start in {pause} s" for pause in (0.001, 0.002, 0.004, 0.004)
    ]


async def test_services_end_before_what_is_below_them_on_the_stack_of_a_lifespan() -> None:
    running = run("taskgroup-patterns", "supervise").running
    order: list[str] = []

    async def refresh() -> None:
        order.append("started")
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("ended")

    @asynccontextmanager
    async def pool() -> AsyncIterator[None]:
        yield
        order.append("pool closed")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(pool())
            await stack.enter_async_context(running({"refresh": refresh}))
            yield

    async with serving(FastAPI(lifespan=lifespan)):
        await until(lambda: order)
    assert order == ["started", "ended", "pool closed"]


# semaphore-patterns


async def test_a_semaphore_made_in_the_function_bounds_nothing() -> None:
    busy = Busy()

    async def call() -> None:
        async with asyncio.Semaphore(1):
            await busy()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(call())
        await turns()
        busy.go.set()
    assert busy.peak == 10


@asynccontextmanager
async def _crawl(slot: Any) -> AsyncIterator[tuple[Busy, Busy]]:
    """Six calls of a host that is stuck and six of another, which answers at once."""
    stuck, other = Busy(), Busy()
    other.go.set()

    async def call(work: Busy, url: str) -> None:
        async with slot(url):
            await work()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(call(stuck, "https://stuck.example/a"))
        for _ in range(6):
            group.create_task(call(other, "https://other.example/b"))
        await turns(100)
        yield stuck, other
        stuck.go.set()


async def test_a_stuck_host_keeps_its_own_slots_and_no_more() -> None:
    limits = run("semaphore-patterns", "HostLimits").HostLimits(total=4, per_host=2)
    async with _crawl(limits.slot) as (stuck, other):
        assert (stuck.active, other.done) == (2, 6)
    assert (stuck.peak, stuck.done) == (2, 6)


async def test_the_total_bounds_all_hosts_together() -> None:
    module = run("semaphore-patterns", "HostLimits")
    limits, busy = module.HostLimits(total=4, per_host=2), Busy()

    async def call(host: int) -> None:
        async with limits.slot(f"https://{host}.example/"):
            await busy()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(call(number % 10))
        await turns(100)
        busy.go.set()
    assert (busy.peak, busy.done) == (4, 30)
    assert len(limits._hosts) == 10  # it keeps one for each host that there was


async def test_with_the_total_taken_first_a_stuck_host_stops_the_other() -> None:
    limits = run("semaphore-patterns", "HostLimits").HostLimits(total=4, per_host=2)

    @asynccontextmanager
    async def wrong(url: str) -> AsyncIterator[None]:
        async with limits._total, limits._hosts[url]:
            yield

    async with _crawl(wrong) as (stuck, other):
        assert (stuck.active, other.done) == (2, 0)


async def test_the_limit_of_httpx_is_for_all_hosts_together_and_its_wait_is_bounded() -> None:
    busy = Busy()
    app, other = FastAPI(), FastAPI()

    @app.get("/")
    async def hold() -> str:
        return await busy()

    limits, wait = httpx.Limits(max_connections=2), httpx.Timeout(LIMIT, pool=0.2)
    async with (
        serving(app) as stuck,
        serving(other) as free,
        httpx.AsyncClient(limits=limits, timeout=wait) as client,
        asyncio.timeout(LIMIT),
    ):
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(client.get(stuck.url)) for _ in range(2)]
            await until(lambda: busy.active == 2)
            with pytest.raises(httpx.PoolTimeout):
                await client.get(free.url)
            busy.go.set()
        assert [task.result().status_code for task in held] == [200, 200]


@dataclass
class Starts:
    """Remembers when calls start, in seconds."""

    times: list[float] = field(default_factory=list)
    active: int = 0
    peak: int = 0

    async def __call__(self, _: str) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.active += 1
        self.peak = max(self.peak, self.active)
        await asyncio.sleep(0.05)
        self.active -= 1

    def spaced(self, interval: float, since: float) -> bool:
        """Whether no start came before its turn. The first turn is at `since` or later; when the
        first call starts is no measure, for that one may be late."""
        return all(
            start - since >= place * interval - 1e-6 for place, start in enumerate(self.times)
        )


async def test_starts_are_spaced_and_slots_bound_how_many_run() -> None:
    starts = Starts()
    module = run("semaphore-patterns", "Rate", send=starts)
    assert (module.slots._value, module.rate._interval) == (10, 1 / 50)
    since = asyncio.get_running_loop().time()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(module.send_within_limits(str(number)))
    assert len(starts.times) == 20
    assert starts.spaced(1 / 50, since)
    module.slots = asyncio.Semaphore(2)
    starts.peak = 0
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(module.send_within_limits(str(number)))
    assert starts.peak == 2


async def test_with_the_turn_taken_first_calls_start_in_a_burst() -> None:
    module = run("semaphore-patterns", "Rate", send=Starts())
    calls = 10

    async def right(slots: asyncio.Semaphore, rate: Any, starts: Starts) -> None:
        async with slots:
            await rate.turn()
            await starts("")

    async def wrong(slots: asyncio.Semaphore, rate: Any, starts: Starts) -> None:
        await rate.turn()
        async with slots:
            await starts("")

    spaced = []
    for send in (right, wrong):
        slots, rate, starts = asyncio.Semaphore(calls), module.Rate(20), Starts()
        for _ in range(calls):
            await slots.acquire()  # all slots are taken by slow calls
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(send(slots, rate, starts))
            await asyncio.sleep((calls + 1) / 20)  # meanwhile the turns pass
            assert starts.times == []
            since = asyncio.get_running_loop().time()
            for _ in range(calls):
                slots.release()
        spaced.append(starts.spaced(1 / 20, since))
    assert spaced == [True, False]


async def test_what_would_wait_too_long_is_refused_and_its_slots_come_back() -> None:
    busy = Busy()
    module = run("semaphore-patterns", "read_report", render=busy)
    async with (
        serving(module.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
        asyncio.timeout(LIMIT),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(client.get(f"/reports/{number}")) for number in range(7)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        refused = [task.result() for task in tasks if task.done()]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert refused[0].headers["Retry-After"] == "1"
        assert (busy.active, busy.peak) == (4, 4)
        await asyncio.sleep(1.2)  # the timeout does not cover the work
        busy.go.set()
        answers = [(await task).status_code for task in tasks]
        assert sorted(answers) == [200] * 4 + [503] * 3
        assert (await client.get("/reports/7")).status_code == 200
        assert module.slots._value == 4


# eager-loading


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


FILL = """
INSERT INTO customers SELECT generate_series(1, 10);
INSERT INTO products SELECT generate_series(1, 3);
INSERT INTO orders (id, customer_id) SELECT number, number % 10 + 1 FROM generate_series(1, 100) AS number;
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


async def test_nested_relations_take_two_statements(database: Database) -> None:
    module = run("eager-loading", "orders_with_all", Order=Order, Line=Line)
    async with _session(database, Base) as (session, sent):
        orders = await module.orders_with_all(session)
        assert [order.customer.id for order in orders[:3]] == [2, 3, 4]
        assert [line.product.id for line in orders[0].lines] == [2, 3, 1, 2]
        assert (len(orders), orders[100].lines) == (101, [])
        assert len(sent.statements) == 2
        assert "LEFT" not in sent.statements[0]
        await session.rollback()  # its lock on the table
        await database.execute("ALTER TABLE orders ALTER customer_id DROP NOT NULL")
        await database.execute("INSERT INTO orders (id, customer_id) VALUES (102, NULL)")
        assert len(await module.orders_with_all(session)) == 101
        assert await database.fetchval("SELECT count(*) FROM orders") == 102


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
        sensor = await session.get(module.Sensor, 1)
        sent.statements.clear()
        await module.record(session, sensor, 7.5)
        assert len(sent.statements) == 1
        assert sent.statements[0].startswith("INSERT INTO readings")
        sent.rows = 0
        assert [each.value for each in await module.latest(session, sensor, 3)] == [7.5, 1000, 999]
        assert (len(sent.statements), sent.rows) == (2, 3)


# middleware-stack

ORIGIN = {"Origin": "https://shop.example.com"}


def _api() -> FastAPI:
    api = FastAPI()

    @api.get("/orders/{number}")
    async def read_order(number: int) -> int:
        logging.getLogger("shop").warning("reading")
        return 100 // number

    @api.post("/orders")
    async def place_order(body: dict[str, str]) -> int:
        return len(body)

    @api.get("/mail")
    async def mail(tasks: BackgroundTasks) -> None:
        tasks.add_task(asyncio.sleep, 1)

    @api.get("/export")
    async def export() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.sleep(0.2)
            logging.getLogger("shop").warning("last chunk")
            yield b"last"

        return StreamingResponse(chunks())

    return api


@asynccontextmanager
async def _client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url, headers=ORIGIN, timeout=LIMIT) as client,
    ):
        yield client


def _messages(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name in names]


async def test_every_answer_passes_the_whole_stack_that_of_an_unhandled_error_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    module = run("middleware-stack", "Logging", api=_api())
    async with _client(module.app) as client:
        answers = [await client.get(path) for path in ("/orders/1", "/nothing", "/orders/0")]
    assert [answer.status_code for answer in answers] == [200, 404, 500]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert re.fullmatch(r"app;dur=\d+\.\d", answer.headers["Server-Timing"])
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 3
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in _messages(caplog, "access")]
    assert lines == ["GET /orders/1 200", "GET /nothing 404", "GET /orders/0 500"]


@pytest.mark.parametrize("quoted", [True, False])
async def test_a_path_with_a_line_break_stays_in_its_line_only_by_quote(
    quoted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "access")
    block = find("middleware-stack", "Logging")
    if not quoted:
        decoded = block.code.replace('quote(scope["path"])', 'scope["path"]')
        assert decoded != block.code
        block = replace(block, code=decoded)
    ordinary = "/orders/7/a-b_c.d~e"
    forged = "/x%0AINFO%20access%20GET%20/admin%20200"
    async with _client(block.run(api=_api()).app) as client:
        for path in (ordinary, forged):
            await client.get(path)
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
    texts = [formatter.format(record) for record in caplog.records if record.name == "access"]
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in "\n".join(texts).split("\n")]
    one, two = [f"GET {forged} 404"], ["GET /x", "GET /admin 200 404"]
    expected = [f"GET {ordinary} 404", *(one if quoted else two)]
    assert lines == [f"INFO access {each}" for each in expected]


async def test_an_app_answers_an_unhandled_error_outside_of_its_own_list() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    api = _api()
    api.add_middleware(module.RequestID)
    async with _client(api) as client:
        assert "X-Request-ID" in (await client.get("/orders/1")).headers
        failed = await client.get("/orders/0")
    assert failed.status_code == 500
    assert "X-Request-ID" not in failed.headers


async def test_an_id_from_outside_is_taken_only_where_it_matches() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    sent = ["0123456789abcdef", "short", "a" * 65, "has spaces and more", "日本語日本語日本語"]
    async with _client(module.app) as client:
        received = [
            (await client.get("/orders/1", headers={b"X-Request-ID": each.encode()})).headers[
                "X-Request-ID"
            ]
            for each in sent
        ]
    assert received[0] == sent[0]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in received[1:])


async def test_the_access_line_comes_after_the_last_byte(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "access")
    module = run("middleware-stack", "Logging", api=_api())
    async with _client(module.app) as client:
        answer = await client.get("/export")
        await until(lambda: _messages(caplog, "access"))
    last, line = _messages(caplog, "access", "shop")
    assert last == "last chunk"
    took = float(line.removeprefix("GET /export 200 ").removesuffix(" ms"))
    started = float(answer.headers["Server-Timing"].removeprefix("app;dur="))
    assert took >= 190  # the stream itself
    assert took - started >= 190


async def test_the_time_in_the_access_line_is_without_background_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    module = run("middleware-stack", "Logging", api=_api())
    async with _client(module.app) as client:
        begun = time.perf_counter()
        await client.get("/mail")
        assert _messages(caplog, "access") == []  # the task runs on, and the line comes after it
        await until(lambda: _messages(caplog, "access"))
        whole = (time.perf_counter() - begun) * 1000
    [line] = _messages(caplog, "access")
    assert whole - float(line.split()[-2]) >= 990  # the second that the task takes


async def test_every_log_line_has_the_id_of_its_request() -> None:
    module = run("middleware-stack", "Logging", api=_api())
    log = run("middleware-stack", "WithRequestID", request_id=module.request_id)
    written = io.StringIO()
    log.handler.setStream(written)
    logger, access = logging.getLogger(), logging.getLogger("access")
    access.setLevel(logging.INFO)
    logger.addHandler(log.handler)
    try:
        async with _client(module.app) as client:
            given = (await client.get("/orders/1")).headers["X-Request-ID"]
        logging.getLogger("shop").warning("outside")
    finally:
        logger.removeHandler(log.handler)
        access.setLevel(logging.NOTSET)
    lines = [line for line in written.getvalue().splitlines() if "uvicorn" not in line]
    assert lines[0] == f"WARNING {given} shop reading"
    assert lines[1].startswith(f"INFO {given} access GET /orders/1 200")
    assert lines[2] == "WARNING - shop outside"


def test_a_filter_on_a_logger_does_not_see_what_other_loggers_log() -> None:
    seen: list[str] = []

    class Seen(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(record.getMessage())
            return True

    parent, child = logging.getLogger("references"), logging.getLogger("references.child")
    filtering = Seen()
    parent.addFilter(filtering)
    try:
        child.warning("from the child")
        parent.warning("from itself")
    finally:
        parent.removeFilter(filtering)
    assert seen == ["from itself"]


async def test_a_layer_that_refuses_stands_inside_of_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    limit = run("middleware-stack", "LimitBody").LimitBody(_api(), largest=100)
    module = run("middleware-stack", "Logging", api=limit)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    async with _client(module.app) as client:
        small = await client.post("/orders", json={"a": "b"})
        large = await client.post("/orders", json={"a": "b" * 100})
        unknown = await client.post("/orders", content=chunks())
    assert [each.status_code for each in (small, large, unknown)] == [200, 413, 411]
    for answer in (large, unknown):
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert "X-Request-ID" in answer.headers
    lines = [re.sub(r" [\d.]+ ms$", "", line) for line in _messages(caplog, "access")]
    assert lines == [f"POST /orders {status}" for status in (200, 413, 411)]


async def test_an_http_exception_that_a_layer_raises_is_a_500() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise HTTPException(413)
        await _api()(scope, receive, send)

    module = run("middleware-stack", "Logging", api=refuse)
    async with _client(module.app) as client:
        assert (await client.get("/orders/1")).status_code == 500


# pool-sizing


def test_the_table_is_what_the_functions_compute() -> None:
    module = run("pool-sizing", "waiting")
    for load, pool, share, needed in rows_of("pool-sizing"):
        assert ceil(int(load) * 1.5) == int(pool)
        percent = float(share.removesuffix(" %"))
        digits = 1 if "." in share else 0
        assert round(100 * module.waiting(int(load), int(pool)), digits) == percent
        assert module.pool_for(int(load)) == int(needed)
    assert module.waiting(6, 6) == module.waiting(6, 5) == 1


@pytest.mark.parametrize("spread", ["random", "fixed"])
def test_the_formula_tells_how_many_requests_wait(spread: str) -> None:
    """In a simulation of 40,000 requests at random times, on a pool of 9 with a load of 6."""
    chance = random.Random(7)
    free_at = [0.0] * 9  # when each connection is free
    now, waited = 0.0, 0
    for _ in range(40_000):
        now += chance.expovariate(6)
        begun = max(now, heapq.heappop(free_at))
        waited += begun > now
        held = chance.expovariate(1) if spread == "random" else 1.0
        heapq.heappush(free_at, begun + held)
    said = run("pool-sizing", "waiting").waiting(6, 9)
    assert 0.7 * said < waited / 40_000 < 1.3 * said


def test_the_percentile_of_the_held_time_gives_far_too_much() -> None:
    held = [0.02] * 98 + [2.0] * 2
    assert round(100 * statistics.fmean(held)) == 6
    assert 100 * statistics.quantiles(held, n=100)[98] == 200


def test_the_plan_is_what_the_text_works_through() -> None:
    module = run("pool-sizing", "plan")
    service = {"max_connections": 100, "replicas": 4, "processes": 2}
    assert module.plan(80, 0.3, **service) == (9, 0)
    assert 9 * 5 * 2 == 90
    assert 9 * 8 * 2 == 144
    assert module.plan(80, 0.3, **service, surge=4) == (9, 37)
    assert 8 * module.pool_for(3) == 72
    with pytest.raises(ValueError, match="37 connections needed, 25 free"):
        module.plan(80, 0.3, **{**service, "max_connections": 30})


@dataclass
class Load:
    """Requests on a pool: how many came, and how many found all its connections in use."""

    came: int = 0
    waited: int = 0


async def _request(engine: AsyncEngine, seconds: float, load: Load) -> None:
    pool: Any = engine.pool
    load.came += 1
    load.waited += pool.checkedout() >= pool.size()
    async with engine.connect():
        await asyncio.sleep(seconds)


async def test_a_pool_by_the_formula_hardly_makes_random_requests_wait(
    database: Database,
) -> None:
    """20 requests a second of 0.1 s on average: a load of 2, on pools of 2 times 1.5 and of 7."""
    measure = run("pool-sizing", "HeldConnections").HeldConnections
    assert run("pool-sizing", "pool_for").pool_for(2) == 7
    engines = [
        create_async_engine(database.url(), pool_size=size, max_overflow=0) for size in (3, 7)
    ]
    chance = random.Random(11)
    loads = [Load(), Load()]
    try:
        for engine, size in zip(engines, (3, 7), strict=True):
            opened = [await engine.connect() for _ in range(size)]
            for each in opened:
                await each.close()
        held = [measure(engine) for engine in engines]
        for each in held:
            each.restart()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for _ in range(120):
                seconds = chance.expovariate(10)
                for engine, load in zip(engines, loads, strict=True):
                    group.create_task(_request(engine, seconds, load))
                await asyncio.sleep(chance.expovariate(20))
        measured = [each.load() for each in held]
    finally:
        for engine in engines:
            await engine.dispose()
    small, large = (load.waited / load.came for load in loads)
    assert small > 0.2
    assert small > 4 * large
    assert all(1 < each < 3 for each in measured)


async def test_the_measured_load_counts_what_is_still_out_and_what_was_out_before(
    database: Database,
) -> None:
    engine = create_async_engine(database.url())
    try:
        async with engine.connect():  # unknown to what is made now
            held = run("pool-sizing", "HeldConnections").HeldConnections(engine)
            async with engine.connect():
                held.restart()
                await asyncio.sleep(0.1)
                assert 0.99 < held.load() <= 1  # all the time since the restart
            await asyncio.sleep(0.1)
            assert 0 < held.load() < 1
            assert held._since == {}
        assert held.load() < 1
    finally:
        await engine.dispose()


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")
async def test_the_measured_load_counts_no_connection_that_the_garbage_collector_took(
    database: Database,
) -> None:
    engine = create_async_engine(database.url())
    held = run("pool-sizing", "HeldConnections").HeldConnections(engine)

    try:
        await engine.connect()  # and nobody closes it
        gc.collect()
        held.restart()
        await asyncio.sleep(0.05)
        assert (held.load(), held._since) == (0, {})
    finally:
        await engine.dispose()


async def test_pools_behind_pgbouncer_cost_the_server_no_more_than_its_pool(
    pgbouncer: PgBouncer, database: Database
) -> None:
    address = pgbouncer.url(database.name, "psycopg")
    options = {"prepare_threshold": None, "application_name": "shop"}
    engines = [
        create_async_engine(address, pool_size=10, max_overflow=0, connect_args=options)
        for _ in range(4)
    ]
    all_out = asyncio.Barrier(40)

    async def request(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await all_out.wait()
            await connection.execute(text("SELECT pg_sleep(0.1)"))

    try:
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            tasks = [group.create_task(request(each)) for each in engines for _ in range(10)]
            seen = set()
            while not all(task.done() for task in tasks):
                seen.add(await asyncio.to_thread(database.connections))
                await asyncio.sleep(0.02)
        assert 1 <= max(seen) <= 5
    finally:
        for engine in engines:
            await engine.dispose()


# fastapi-app-boilerplate


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The package, written as its blocks say. Gives the code by its path."""
    files = {}
    for block in BLOCKS["fastapi-app-boilerplate"]:
        path = block.code.splitlines()[0].removeprefix("# ")
        files[path] = block.code
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(block.code, "utf-8")
        RAN.add(("fastapi-app-boilerplate", block.line))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SHOP_DATABASE_URL", raising=False)
    yield files
    for module in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[module]


def test_the_files_are_those_of_the_table_and_import_only_from_above(
    shop: dict[str, str],
) -> None:
    paths = [row[0].strip("`") for row in rows_of("fastapi-app-boilerplate")]
    assert paths == list(shop)
    for place, path in enumerate(paths):
        for node in ast.walk(ast.parse(shop[path])):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("shop"):
                assert paths.index(node.module.replace(".", "/") + ".py") < place
    http = re.compile(r"fastapi|starlette|status|\b4\d\d\b")
    assert not any(http.search(shop[f"shop/{name}.py"]) for name in ("errors", "orders/service"))


async def test_the_service_keeps_orders_and_closes_its_connections(
    shop: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", database.url())
    await database.execute("CREATE TABLE orders (id serial PRIMARY KEY, number bigint UNIQUE)")
    async with (
        serving("shop.main:create_app", factory=True) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        placed = await client.post("/orders/7")
        again = await client.post("/orders/7")
        assert await database.fetchval("SELECT count(*) FROM orders") == 1
        assert database.connections() == 1
    assert (placed.status_code, placed.json()) == (201, {"id": 1, "number": 7})
    assert again.status_code == 409
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.json() == {"status": 409, "detail": "There is an order 7."}
    await until(lambda: database.connections() == 0)


async def test_without_its_settings_the_service_does_not_start_and_says_which(
    shop: dict[str, str],
) -> None:
    main = importlib.import_module("shop.main")
    with pytest.raises(Exception, match="database_url"):
        async with serving(main.create_app()):
            pass


def test_a_factory_gives_each_test_an_app_of_its_own(shop: dict[str, str]) -> None:
    main = importlib.import_module("shop.main")
    one, other = main.create_app(), main.create_app()
    one.dependency_overrides[len] = max
    assert other.dependency_overrides == {}
    assert not hasattr(one.state, "sessions")


# fastapi-integration


@asynccontextmanager
async def _integrated(
    database: Database, *, deferred: bool = False
) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    """The service under a real uvicorn; `deferred` checks its constraint at the commit."""
    module = run("fastapi-integration", "OrderRepository", database_url=database.url())
    engine = create_async_engine(database.url())
    async with engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
    await engine.dispose()
    if deferred:
        await database.execute(
            "ALTER TABLE orders DROP CONSTRAINT orders_number_key,"
            " ADD CONSTRAINT later UNIQUE (number) DEFERRABLE INITIALLY DEFERRED"
        )
    async with (
        serving(module.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
    ):
        yield module, client


@pytest.mark.parametrize("deferred", [False, True])
async def test_a_conflict_is_a_409_at_the_flush_and_at_the_commit(
    database: Database, deferred: bool
) -> None:
    async with _integrated(database, deferred=deferred) as (_, client):
        statuses = [(await client.post("/orders/7")).status_code for _ in range(2)]
        found, missing = await client.get("/orders/7"), await client.get("/orders/8")
        assert (statuses, found.json(), missing.status_code) == ([201, 409], 1, 404)
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
    await until(lambda: database.connections() == 0)


@pytest.mark.parametrize(
    ("path", "status", "kept"), [("/dependency", 500, [1]), ("/factory", 200, [1, 2])]
)
async def test_a_route_that_calls_a_service_takes_two_sessions_from_the_factory(
    database: Database, path: str, status: int, kept: list[int]
) -> None:
    async with _integrated(database) as (module, client):
        app: FastAPI = module.app

        @app.get("/dependency")
        async def one(session: Any = module.Session.__metadata__[0]) -> None:
            session.add(module.Order(number=1))
            await session.commit()
            session.add(module.Order(number=2))
            await session.flush()

        @app.get("/factory")
        async def two() -> None:
            for number in (1, 2):
                async with app.state.sessions.begin() as session:
                    session.add(module.Order(number=number))
                assert database.connections() == 1
                assert app.state.sessions.kw["bind"].pool.checkedout() == 0

        assert (await client.get(path)).status_code == status
    assert await database.fetchval("SELECT array_agg(number ORDER BY id) FROM orders") == kept


def _rolled_back(module: Any, database: Database) -> Any:
    return run(
        "fastapi-integration",
        "rolled_back_client",
        app=module.app,
        get_session=module.get_session,
        database_url=database.url(),
    ).rolled_back_client()


async def test_a_rolled_back_test_sees_its_writes_and_leaves_none(database: Database) -> None:
    async with _integrated(database) as (module, client):
        async with _rolled_back(module, database) as testing:
            statuses = [(await testing.post(f"/orders/{each}")).status_code for each in (7, 7, 8)]
            found = [(await testing.get(f"/orders/{each}")).status_code for each in (7, 8, 9)]
            assert await database.fetchval("SELECT count(*) FROM orders") == 0
        assert (statuses, found) == ([201, 409, 201], [200, 200, 404])
        assert module.app.dependency_overrides == {}
        assert (await client.get("/orders/7")).status_code == 404
    assert await database.fetchval("SELECT count(*) FROM orders") == 0


async def test_a_rolled_back_test_does_not_check_a_deferred_constraint(
    database: Database,
) -> None:
    async with (
        _integrated(database, deferred=True) as (module, _),
        _rolled_back(module, database) as testing,
    ):
        statuses = [(await testing.post("/orders/7")).status_code for _ in range(2)]
    assert statuses == [201, 201]


# All


def test_every_block_was_run(request: pytest.FixtureRequest) -> None:
    whole = {item.name for item in request.session.items if item.path == request.node.path}
    defined = {name for name in globals() if name.startswith("test_")}
    if {name.partition("[")[0] for name in whole} != defined:
        pytest.skip("only some of the tests were asked for")
    assert {(name, each.line) for name, blocks in BLOCKS.items() for each in blocks} == RAN
