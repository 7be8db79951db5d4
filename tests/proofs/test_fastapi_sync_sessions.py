"""Threads that wait for connections of requests that wait for threads; a place for each ends it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import asyncpg
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlalchemy import Engine, create_engine, event, insert, literal, select
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.hurry import Hurried
from tests.services import Database, serving

THREADS, FEW = 40, 4  # of AnyIO, and of tests that are quicker with fewer
POOL = 15  # of a QueuePool as it is by default
ASKED, FEWER = 60, POOL + FEW + 5
PATH = "/orders/count"

limited = pytest.mark.skipif(
    tuple(map(int, version("fastapi").split("."))) < (0, 163), reason="there Depends has no limit"
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with three orders."""
    engine = create_engine(database.url("psycopg"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Order), [{"id": number} for number in (1, 2, 3)])
    engine.dispose()
    return database


@dataclass
class _Client:
    """Sends requests at once to an app that is served, and sees how it stands."""

    http: httpx.AsyncClient
    database: Database
    engine: Engine
    limiter: anyio.CapacityLimiter
    peak: int = 0
    """The most connections that were in use at once."""
    asking: set[asyncio.Task[httpx.Response]] = field(default_factory=set)

    def count(self, *_: object) -> None:
        self.peak = max(self.peak, self.in_use)

    @property
    def in_use(self) -> int:
        return self.engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]

    @property
    def stands(self) -> tuple[int, int, int]:
        """Connections in use, threads in use, and requests that wait for a thread."""
        waiting = self.limiter.statistics().tasks_waiting
        return self.in_use, int(self.limiter.borrowed_tokens), waiting

    async def until(self, *stands: int) -> None:
        async with asyncio.timeout(10):
            while self.stands != stands:
                await asyncio.sleep(0.01)

    async def all(self) -> Counter[int]:
        """How many were answered with each status, when all have been."""
        done, _ = await asyncio.wait(self.asking, timeout=10)
        assert len(done) == len(self.asking), self.stands
        return Counter(each.result().status_code for each in done)

    async def ask_at_once(self, *paths: str, waiting: int | None = None) -> None:
        """Ask, and give no thread to a request before `waiting` of them, or all, wait for one."""
        threads = [object() for _ in range(int(self.limiter.total_tokens))]
        for each in threads:
            await self.limiter.acquire_on_behalf_of(each)
        self.asking = {asyncio.create_task(self.http.get(path)) for path in paths}
        try:
            await self.until(0, len(threads), len(paths) if waiting is None else waiting)
        finally:
            for each in threads:
                self.limiter.release_on_behalf_of(each)

    @asynccontextmanager
    async def ask_together(self, *paths: str, connections: int) -> AsyncIterator[None]:
        """Ask, and hold the queries back by a lock on the table until all wait, and over the body."""
        threads = int(self.limiter.total_tokens)
        lock = await asyncpg.connect(self.database.dsn, ssl=False)
        try:
            await lock.execute("BEGIN; LOCK TABLE orders")
            await self.ask_at_once(*paths)
            await self.until(min(connections, threads), threads, len(paths) - threads)
            yield
        finally:
            await lock.close()

    async def stand_still(self, *paths: str, connections: int) -> None:
        """Of these requests none goes on: each connection is idle, of one that waits for a thread.

        Each thread waits for a connection. More threads let all go on.
        """
        async with self.ask_together(*paths, connections=connections):
            pass
        threads = int(self.limiter.total_tokens)
        stands = connections, threads, len(paths) - threads
        idle = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        async with asyncio.timeout(10):
            while await self.database.fetchval(idle) < connections or self.stands != stands:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert self.stands == stands
        assert not any(each.done() for each in self.asking)
        self.limiter.total_tokens = 2 * len(self.asking)
        assert await self.all() == {200: len(self.asking)}


@asynccontextmanager
async def _client(
    app: FastAPI, engine: Engine, database: Database, *, threads: int = THREADS
) -> AsyncIterator[_Client]:
    limiter = anyio.to_thread.current_default_thread_limiter()
    assert limiter.total_tokens == THREADS
    limiter.total_tokens = threads
    try:
        async with (
            asyncio.timeout(30),
            serving(app, timeout_graceful_shutdown=0) as served,
            httpx.AsyncClient(base_url=served.url, timeout=30) as http,
        ):
            client = _Client(http, database, engine, limiter)
            event.listen(engine, "checkout", client.count)
            try:
                yield client
            finally:
                limiter.total_tokens = 3 * ASKED  # what stands still goes on, and ends
                for each in client.asking:
                    each.cancel()
    finally:
        limiter.total_tokens = THREADS
        engine.dispose()


def _first(session: Session) -> int:
    return session.scalars(select(Order.id).limit(1)).one()


def _patient(module: Any) -> Any:
    """The module, whose places are waited for as long as a slow machine needs."""
    module.asyncio = Hurried(1 / 20)
    return module


def _block(*, correct: bool, change: tuple[str, str] = ("", "")) -> Block:
    block = RuleFile.load("fastapi-sync-sessions").block(correct=correct)
    assert change[0] in block.code
    return replace(block, code=block.code.replace(*change)) if change[0] else block


async def test_incorrect_stands_still(incorrect: Block, shop: Database, witness: Witness) -> None:
    module = incorrect.run(url=shop.url("psycopg"), Order=Order)
    assert module.engine.pool._timeout == 30
    async with _client(module.app, module.engine, shop) as client:
        await client.stand_still(*[PATH] * ASKED, connections=POOL)
    witness.observed(
        incorrect="60 requests at once: 40 threads waited for a connection, 15 connections were"
        " idle in transaction, and 0 of 60 requests were answered"
    )


async def test_incorrect_fails_when_the_wait_for_a_connection_ends(
    incorrect: Block, shop: Database, witness: Witness
) -> None:
    module = incorrect.run(url=shop.url("psycopg"), Order=Order)
    async with _client(module.app, module.engine, shop) as client:
        async with client.ask_together(*[PATH] * ASKED, connections=POOL):
            module.engine.pool._timeout = 0.5  # of those that find no connection afterwards
        assert set(await client.all()) == {200, 500}


async def test_correct_answers_all(correct: Block, shop: Database, witness: Witness) -> None:
    module = _patient(correct.run(url=shop.url("psycopg"), Order=Order))
    async with _client(module.app, module.engine, shop) as client:
        assert (await client.http.get(PATH)).json() == 3
        await client.ask_at_once(*[PATH] * ASKED, waiting=10)
        assert await client.all() == {200: ASKED}
        assert client.peak == 10
        assert client.stands == (0, 0, 0)
    assert module.places._value == 10
    assert module.asyncio.seconds == [1] * (ASKED + 1)
    witness.observed(correct="60 requests at once: 60 of 60 were answered over 10 connections")


async def test_correct_refuses_after_a_second_and_needs_no_thread_to_wait(
    correct: Block, shop: Database
) -> None:
    module = correct.run(url=shop.url("psycopg"), Order=Order)
    module.asyncio = Hurried(2)
    for _ in range(module.PLACES):
        await module.places.acquire()
    async with _client(module.app, module.engine, shop) as client:
        client.asking = {asyncio.create_task(client.http.get(PATH)) for _ in range(ASKED)}
        async with asyncio.timeout(10):
            while len(module.asyncio.seconds) < ASKED:
                await asyncio.sleep(0.01)
        assert client.stands == (0, 0, 0)
        assert await client.all() == {503: ASKED}
        refused = next(iter(client.asking)).result()
        assert refused.json() == {"detail": "Busy"}
        assert refused.headers["Retry-After"] == "1"
        module.places.release()
        assert (await client.http.get(PATH)).status_code == 200
    assert module.asyncio.seconds == [1] * (ASKED + 1)


async def test_correct_gives_every_place_back(correct: Block, shop: Database) -> None:
    module = _patient(correct.run(url=shop.url("psycopg"), Order=Order))
    app: FastAPI = module.app
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    @app.get("/refused")
    def refuse(session: Any = module.DbSession.__metadata__[0]) -> None:
        session.execute(select(1))
        raise HTTPException(409)

    @app.get("/broken")
    def fail(session: Any = module.DbSession.__metadata__[0]) -> int:
        return int(session.scalar(select(literal("x"))))

    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        paths = ["/refused", "/broken", PATH] * 10
        asking = [asyncio.create_task(http.get(path)) for path in paths]
        answers = await asyncio.gather(*asking)
        assert [each.status_code for each in answers] == [409, 500, 200] * 10
        for _ in range(module.PLACES):
            await module.places.acquire()
        waiting = [asyncio.create_task(http.get(PATH)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        assert module.places._value == 0
    assert module.engine.pool.checkedout() == 0
    module.engine.dispose()


async def test_correct_has_a_connection_for_each_place_and_no_more(
    correct: Block, shop: Database
) -> None:
    module = correct.run(url=shop.url("psycopg"), Order=Order)
    module.engine.pool._timeout = 0.1
    with ExitStack() as stack:
        for _ in range(module.PLACES):
            stack.enter_context(module.engine.connect())
        with pytest.raises(PoolTimeout, match="QueuePool limit of size 10 overflow 0 reached"):
            module.engine.connect()
    module.engine.dispose()
    module.places = asyncio.Semaphore(0)
    module.asyncio = Hurried(100)
    with pytest.raises(HTTPException) as refused:
        await anext(module.admit())
    assert refused.value.__suppress_context__


async def test_correct_answers_500_where_the_fault_is_its_own(
    correct: Block, shop: Database
) -> None:
    class Broken(asyncio.Semaphore):
        async def acquire(self) -> Literal[True]:
            raise RuntimeError("bound to a different event loop")

    module = correct.run(url=shop.url("psycopg"), Order=Order)
    module.places = Broken()
    transport = httpx.ASGITransport(module.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        assert (await http.get(PATH)).status_code == 500


@pytest.mark.parametrize(
    ("pool", "threads", "asked"), [(40, 40, 100), (POOL, 10, 30)], ids=["large", "few"]
)
async def test_neither_a_large_pool_nor_few_threads_help(
    pool: int, threads: int, asked: int, shop: Database
) -> None:
    larger = ("create_engine(url)", f"create_engine(url, pool_size={pool}, max_overflow=0)")
    module = _block(correct=False, change=larger).run(url=shop.url("psycopg"), Order=Order)
    async with _client(module.app, module.engine, shop, threads=threads) as client:
        await client.stand_still(*[PATH] * asked, connections=pool)


async def test_without_a_response_model_a_second_function_does_it(shop: Database) -> None:
    module = _block(correct=False).run(url=shop.url("psycopg"), Order=Order)
    app: FastAPI = module.app

    def first(session: Any = module.DbSession.__metadata__[0]) -> int:
        return _first(session)

    app.get("/one", response_model=None)(first)

    @app.get("/two", response_model=None)
    def two(_: Annotated[int, Depends(first)]) -> int:
        return 2

    async with _client(app, module.engine, shop, threads=FEW) as client:
        await client.ask_at_once(*["/one"] * FEWER)
        assert await client.all() == {200: FEWER}
        await client.stand_still(*["/two"] * FEWER, connections=POOL)


async def test_a_session_of_the_route_needs_no_place(shop: Database) -> None:
    module = _block(correct=False).run(url=shop.url("psycopg"), Order=Order)
    app: FastAPI = module.app

    @app.get("/own")
    def own() -> list[int]:
        with Session(module.engine) as session:
            return list(session.scalars(select(Order.id)))

    async with _client(app, module.engine, shop, threads=FEW) as client:
        await client.ask_at_once(*["/own"] * FEWER)
        assert await client.all() == {200: FEWER}
        assert client.peak <= POOL


async def _stored(module: Any, shop: Database) -> int:
    """How many of FEWER background tasks opened a session of their own, at once, and stored."""
    stored: list[int] = []

    def store() -> None:
        with Session(module.engine) as session:
            stored.append(_first(session))

    app: FastAPI = module.app

    @app.get("/stored")
    def answer(tasks: BackgroundTasks, session: Any = module.DbSession.__metadata__[0]) -> int:
        tasks.add_task(store)
        return _first(session)

    module.engine.pool._timeout = 1
    async with _client(module.app, module.engine, shop, threads=FEW) as client:
        await client.ask_at_once(*["/stored"] * FEWER, waiting=10)
        assert await client.all() == {200: FEWER}
        async with asyncio.timeout(10):
            while client.stands != (0, 0, 0) or module.places._value < module.PLACES:
                await asyncio.sleep(0.01)
    return len(stored)


async def test_correct_lets_background_tasks_open_sessions(correct: Block, shop: Database) -> None:
    module = _patient(correct.run(url=shop.url("psycopg"), Order=Order))
    assert await _stored(module, shop) == FEWER


async def test_without_function_scope_background_tasks_wait_for_each_other(shop: Database) -> None:
    block = _block(correct=True, change=(', scope="function"', ""))
    module = _patient(block.run(url=shop.url("psycopg"), Order=Order))
    assert await _stored(module, shop) < FEWER


def _limit(app: FastAPI, path: str, depends: Any) -> None:
    @app.get(path)
    def orders(session: Annotated[Session, depends]) -> list[int]:
        return list(session.scalars(select(Order.id)))


@limited
async def test_max_concurrency_of_one_depends_bounds_all_routes(shop: Database) -> None:
    module = _block(correct=False).run(url=shop.url("psycopg"), Order=Order)
    shared = Depends(module.get_session, max_concurrency=10)
    for number in range(6):
        _limit(module.app, f"/shared/{number}", shared)
        own = Depends(module.get_session, max_concurrency=10)
        _limit(module.app, f"/own/{number}", own)
    async with _client(module.app, module.engine, shop, threads=FEW) as client:
        paths = [f"/shared/{number % 6}" for number in range(FEWER)]
        await client.ask_at_once(*paths, waiting=10)
        assert await client.all() == {200: FEWER}
        assert client.peak <= 10
        paths = [f"/own/{number % 6}" for number in range(FEWER)]
        await client.stand_still(*paths, connections=POOL)


@limited
async def test_a_request_that_takes_a_limit_twice_waits_for_itself(shop: Database) -> None:
    module = _block(correct=False).run(url=shop.url("psycopg"), Order=Order)
    limit = Depends(module.get_session, use_cache=False, max_concurrency=10)

    app: FastAPI = module.app

    @app.get("/twice")
    def twice(one: Annotated[Session, limit], other: Annotated[Session, limit]) -> None:
        assert one is not other

    async with _client(app, module.engine, shop, threads=FEW) as client:
        assert (await client.http.get("/twice")).status_code == 200
        await client.ask_at_once(*["/twice"] * 20, waiting=10)
        await client.until(0, 0, 0)
        done, _ = await asyncio.wait(client.asking, timeout=0.3)
        assert not done
