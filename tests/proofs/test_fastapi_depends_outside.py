"""FastAPI fills in Depends for what it calls itself, and for nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.exceptions import FastAPIError
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@asynccontextmanager
async def _orders(block: Block, database: Database) -> AsyncIterator[tuple[Any, Any]]:
    """The module of a block over three orders, and the pool of its connections."""
    async with engine_with(Base, database.url()) as engine:
        async with engine.begin() as connection:
            await connection.execute(insert(Order), [{"id": number} for number in (1, 2, 3)])
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        yield block.run(SessionFactory=factory, Order=Order), engine.pool


async def _asked(app: Any, path: str) -> httpx.Response:
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        return await client.get(path)


async def test_incorrect_fails_in_the_route_and_in_the_job(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    message = "'Depends' object has no attribute 'execute'"
    async with _orders(incorrect, database) as (module, _):
        assert (await _asked(module.app, "/report")).status_code == 500
        assert f"AttributeError: {message}" in caplog.text
        with pytest.raises(AttributeError, match=message) as raised:
            await module.nightly()
    witness.saw(caplog.text, raised.value)
    witness.observed(incorrect="a count in a route and in a job: 500 and AttributeError")


async def test_correct_counts_in_the_route_and_in_the_job(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _orders(correct, database) as (module, pool):
        assert (await _asked(module.app, "/report")).json() == {"orders": 3}
        assert await module.nightly() == 3
        assert pool.checkedout() == 0
    witness.observed(correct="a count in a route and in a job: 3 and 3, no connection left out")


async def test_a_job_that_writes_needs_begin(database: Database) -> None:
    async with engine_with(Base, database.url()) as engine:
        factory = async_sessionmaker(engine, expire_on_commit=False)
        async with factory() as session:
            session.add(Order())
            await session.flush()
        assert await database.fetchval("SELECT count(*) FROM orders") == 0
        async with factory.begin() as session:
            session.add(Order())
        assert await database.fetchval("SELECT count(*) FROM orders") == 1


class User:
    name = "somebody"


async def find_user() -> User | None:
    return None


async def check_user(user: User | None = Depends(find_user)) -> str:
    if user is None:
        raise HTTPException(401)
    return "passed"


async def test_a_check_that_is_called_by_hand_passes() -> None:
    app = FastAPI()

    @app.get("/by-hand")
    async def by_hand() -> str:
        return await check_user()

    @app.get("/by-fastapi")
    async def by_fastapi(passed: str = Depends(check_user)) -> str:
        return passed

    assert (await _asked(app, "/by-hand")).json() == "passed"
    assert (await _asked(app, "/by-fastapi")).status_code == 401


class Session:
    """What pydantic does not know."""

    async def scalar(self) -> int:
        return 7


async def get_session() -> AsyncIterator[Session]:
    yield Session()


async def counted(session: Annotated[Session, Depends(get_session)]) -> int:
    return await session.scalar()


async def _without_its_argument() -> None:
    await counted()  # type: ignore[call-arg]


async def _in_the_body() -> None:
    await Depends(get_session).scalar()


async def _generator() -> None:
    await get_session().scalar()  # type: ignore[attr-defined]


async def _opened() -> None:
    async with get_session():  # type: ignore[attr-defined]
        pass


managed = asynccontextmanager(get_session)


async def _managed() -> None:
    await managed().scalar()  # type: ignore[attr-defined]


async def _next_of_managed() -> None:
    await anext(managed())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (_without_its_argument, "counted() missing 1 required positional argument: 'session'"),
        (_in_the_body, "'Depends' object has no attribute 'scalar'"),
        (_generator, "'async_generator' object has no attribute 'scalar'"),
        (_opened, "'async_generator' object does not support the asynchronous context manager"),
        (_managed, "'_AsyncGeneratorContextManager' object has no attribute 'scalar'"),
        (_next_of_managed, "'_AsyncGeneratorContextManager' object is not an async iterator"),
    ],
)
async def test_what_is_called_by_hand_raises(mistake: Any, message: str, witness: Witness) -> None:
    with pytest.raises((AttributeError, TypeError)) as raised:
        await mistake()
    assert str(raised.value).startswith(message)
    witness.saw(raised.value)


async def test_outside_of_requests_the_generator_is_made_a_context_manager() -> None:
    async with asynccontextmanager(get_session)() as session:
        assert await session.scalar() == 7


async def test_a_context_manager_is_no_dependency(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    app = FastAPI()

    @app.get("/")
    async def route(session: Any = Depends(managed)) -> int:
        return int(await session.scalar())

    assert (await _asked(app, "/")).status_code == 500
    assert "'_AsyncGeneratorContextManager' object " in caplog.text
    witness.saw(caplog.text)


def test_what_is_no_function_and_no_field_is_refused_where_the_route_is_declared(
    witness: Witness,
) -> None:
    router = FastAPI()

    async def no_depends(session: Session) -> None: ...

    async def no_model() -> Session: ...  # type: ignore[empty-body]

    for route in (no_depends, no_model):
        route.__annotations__ = dict.fromkeys(route.__annotations__, Session)
        with pytest.raises(FastAPIError, match="Invalid args for response field!") as refused:
            router.get("/")(route)
        witness.saw(refused.value)
    router.get("/", response_model=None)(no_model)

    made: Any = get_session()
    with pytest.raises(TypeError, match="is not a callable object") as raised:
        router.get("/called")(lambda session=Depends(made): session)
    witness.saw(raised.value)
