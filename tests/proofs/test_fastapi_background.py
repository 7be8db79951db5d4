"""Background work keeps its writes and gives its connections back only with its own session."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class Receipt(Base):
    __tablename__ = "receipts"
    order_number: Mapped[int] = mapped_column(
        ForeignKey("orders.number"), primary_key=True, autoincrement=False
    )


@dataclass(frozen=True)
class Seen:
    """What three orders left: statuses, rows, and connections that are still out of the pool."""

    statuses: list[int]
    orders: int
    receipts: int
    out: int


class _Awaited:
    """Wraps an application, so that one can wait for what it does after its response."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._ended = asyncio.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self._ended.release()

    async def finished(self) -> None:
        await asyncio.wait_for(self._ended.acquire(), 10)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from ending leaked connections at a time of its choice."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _run(block: Block, factory: Any, scope: Literal["function", "request"] = "function") -> Any:
    async def get_session() -> AsyncIterator[AsyncSession]:
        async with factory.begin() as session:
            yield session

    given = {
        "Session": Annotated[AsyncSession, Depends(get_session, scope=scope)],
        "SessionFactory": factory,
        "Order": Order,
        "Receipt": Receipt,
    }
    return block.run(**{name: given[name] for name in block.given})


@asynccontextmanager
async def _three_orders(
    block: Block, database: Database, scope: Literal["function", "request"] = "function"
) -> AsyncIterator[Seen]:
    """Post three orders, one after the other, to a service with a pool of two."""
    async with engine_with(
        Base, database.url(), pool_size=2, max_overflow=0, pool_timeout=0.2
    ) as engine:
        app = _Awaited(_run(block, async_sessionmaker(engine), scope).app)
        statuses = []
        # uvicorn closes the connection of a task that failed, perhaps while the next order is sent.
        fresh = httpx.Limits(max_keepalive_connections=0)
        async with (
            serving(app) as served,
            httpx.AsyncClient(base_url=served.url, limits=fresh) as client,
        ):
            for number in range(3):
                statuses.append((await client.post(f"/orders/{number}")).status_code)
                await app.finished()
        pool: Any = engine.pool
        orders, receipts = await _rows(database)
        yield Seen(statuses, orders, receipts, pool.checkedout())


def _collect(caplog: pytest.LogCaptureFixture) -> None:
    """Collect garbage, that which only the log's tracebacks hold too. Its warnings are logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
        for record in caplog.records:
            record.exc_info = None  # its text stays in exc_text
        gc.collect()


async def _rows(database: Database) -> tuple[int, int]:
    row = await database.fetch(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM receipts)"
    )
    return row[0][0], row[0][1]


@pytest.mark.usefixtures("no_collection")
async def test_incorrect_loses_the_inserts_and_leaks_their_connections(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with _three_orders(incorrect, database) as seen:
        assert seen == Seen([200, 200, 500], orders=2, receipts=0, out=2)
        _collect(caplog)
        await database.left()
    first = version("sqlalchemy") == "2.0.0"
    text = "Exception during reset or similar" if first else "clean up non-checked-in connection"
    assert sum(text in message for message in caplog.messages) == 2
    witness.observed(
        incorrect="pool of 2, 3 orders: 200, 200, 500; 0 of 2 receipts; 2 connections stayed out"
    )


@pytest.mark.usefixtures("no_collection")
async def test_correct_keeps_the_inserts_and_returns_the_connections(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _three_orders(correct, database) as seen:
        assert seen == Seen([200, 200, 200], orders=3, receipts=3, out=0)
    witness.observed(
        correct="pool of 2, 3 orders: 200, 200, 200; 3 of 3 receipts; 0 connections stayed out"
    )


async def test_under_the_default_scope_its_own_session_does_not_see_the_order(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with _three_orders(correct, database, "request") as seen:
        assert seen == Seen([200, 200, 200], orders=3, receipts=0, out=0)
    assert caplog.text.count('is not present in table "orders"') >= 3
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == [
        f"order {n} has no receipt" for n in range(3)
    ]


async def test_under_the_default_scope_a_failing_task_rolls_the_order_back(
    incorrect: Block, database: Database
) -> None:
    code = incorrect.code.replace("order_number=number", "order_number=-1")
    async with _three_orders(replace(incorrect, code=code), database, "request") as seen:
        assert seen == Seen([200, 200, 200], orders=0, receipts=0, out=0)


async def _next_task_runs(task: Callable[..., Any], *args: object) -> bool:
    """Whether the task added after this one runs. The client gets 200 in any case."""
    ran: list[bool] = []
    app = FastAPI()

    @app.post("/")
    async def add(tasks: BackgroundTasks) -> None:
        tasks.add_task(task, *args)
        tasks.add_task(ran.append, True)

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.post("/")).status_code == 200
    return bool(ran)


async def test_a_task_that_raises_stops_the_next() -> None:
    async def fail() -> None:
        raise ConnectionError

    assert not await _next_task_runs(fail)


async def test_a_task_that_logs_its_error_lets_the_next_run(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise ConnectionError

    factory = type("Factory", (), {"begin": staticmethod(refuse)})
    assert await _next_task_runs(_run(correct, factory).add_receipt, 7)
    assert "order 7 has no receipt" in caplog.messages


@asynccontextmanager
async def _while_a_task_fails(
    task: Callable[..., Any], *args: object
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Event]]:
    """Post what adds the task. The event is set by `/next`, which answers once the task is over."""
    begun = asyncio.Event()
    api = FastAPI()
    app = _Awaited(api)

    @api.post("/")
    async def add(tasks: BackgroundTasks) -> None:
        tasks.add_task(task, begun, *args)

    @api.get("/next")
    async def follow() -> None:
        begun.set()
        await app.finished()

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        answer = await client.post("/")
        assert (answer.status_code, "connection" in answer.headers) == (200, False)
        yield client, begun


async def _fail(begun: asyncio.Event) -> None:
    await asyncio.wait_for(begun.wait(), 10)
    raise ConnectionError


async def test_a_task_that_fails_ends_the_connection_that_carries_the_next_request() -> None:
    async with _while_a_task_fails(_fail) as (client, begun):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/next")
        assert begun.is_set()


async def test_a_task_that_logs_its_error_leaves_the_connection_to_the_next_request(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    async def receipt(begun: asyncio.Event) -> None:
        factory = type("Factory", (), {"begin": staticmethod(lambda: _Failing(begun))})
        await _run(correct, factory).add_receipt(7)

    async with _while_a_task_fails(receipt) as (client, _):
        assert (await client.get("/next")).status_code == 200
    assert "order 7 has no receipt" in caplog.messages


@dataclass(frozen=True)
class _Failing:
    """A transaction that cannot begin."""

    begun: asyncio.Event

    async def __aenter__(self) -> None:
        await _fail(self.begun)

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_task_that_is_cancelled_stays_cancelled(correct: Block) -> None:
    def cancel() -> None:
        raise asyncio.CancelledError

    factory = type("Factory", (), {"begin": staticmethod(cancel)})
    with pytest.raises(asyncio.CancelledError):
        await _run(correct, factory).add_receipt(7)
