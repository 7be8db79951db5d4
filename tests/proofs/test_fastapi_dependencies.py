"""A check that is a dependency of the router cannot be forgotten by a route."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving

# HTTPBearer answers 401 for a missing token from this release on.
MISSING_TOKEN = 401 if tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 122) else 403


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str]
    is_admin: Mapped[bool]


class Invoice(Base):
    __tablename__ = "invoices"
    number: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)


class InvoiceService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def mark_paid(self, number: int) -> None:
        query = update(Invoice).where(Invoice.number == number).values(paid=True)
        await self._session.execute(query)

    async def remove(self, number: int) -> None:
        await self._session.execute(delete(Invoice).where(Invoice.number == number))


class LimitedService:
    """As a dependency, FastAPI reads its constructor's parameters from the request."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit


def get_limited_service() -> LimitedService:
    return LimitedService()


async def find_user(session: AsyncSession, token: str) -> User | None:
    user: User | None = await session.scalar(select(User).where(User.token == token))
    return user


@asynccontextmanager
async def _invoices(
    block: Block, database: Database
) -> AsyncIterator[tuple[Any, httpx.AsyncClient, list[AsyncSession]]]:
    """The block's module, a client of its app, and the sessions opened; invoice 7 exists."""
    factory = async_sessionmaker(class_=AsyncSession)
    opened: list[AsyncSession] = []

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with factory.begin() as session:
            opened.append(session)
            yield session

    given = {
        "Session": Annotated[AsyncSession, Depends(get_session, scope="function")],
        "InvoiceService": InvoiceService,
        "User": User,
        "find_user": find_user,
    }
    async with engine_with(Base, database.url()) as engine:
        factory.configure(bind=engine)
        async with factory.begin() as session:
            session.add_all([User(token="ada", is_admin=True), User(token="bob", is_admin=False)])
            session.add(Invoice(number=7))
        module = block.run(**{name: given[name] for name in block.given})
        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            yield module, client, opened


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _count(database: Database) -> Any:
    return await database.fetchval("SELECT count(*) FROM invoices")


async def test_incorrect_guards_one_route_and_deletes_for_anybody_by_the_other(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _invoices(incorrect, database) as (_, client, _opened):
        assert (await client.post("/invoices/7/paid")).status_code == 401
        assert (await client.delete("/invoices/7")).status_code == 204
    assert await _count(database) == 0
    witness.observed(incorrect="delete without a token: 204, the row gone; the other route: 401")


async def test_correct_refuses_everybody_but_an_admin_on_both_routes(
    correct: Block, database: Database, witness: Witness
) -> None:
    async with _invoices(correct, database) as (_, client, _opened):
        for method, path in (("DELETE", "/invoices/7"), ("POST", "/invoices/7/paid")):
            statuses = [
                (await client.request(method, path, headers=headers)).status_code
                for headers in ({}, _bearer("eve"), _bearer("bob"))
            ]
            assert statuses == [MISSING_TOKEN, 401, 403]
        assert await database.fetchval("SELECT paid FROM invoices") is False
        paid = await client.post("/invoices/7/paid", headers=_bearer("ada"))
        assert paid.status_code == 204
        assert await database.fetchval("SELECT paid FROM invoices") is True
        removed = await client.delete("/invoices/7", headers=_bearer("ada"))
        assert removed.status_code == 204
    assert await _count(database) == 0
    witness.observed(
        correct="delete without a token: refused, as with a wrong one (401) and without the role (403); "
        "a route added later: refused too"
    )


async def test_a_route_that_is_added_later_is_refused_without_a_word_of_its_own(
    correct: Block, database: Database
) -> None:
    async with _invoices(correct, database) as (module, client, _opened):
        added = FastAPI()

        async def purge(session: Any = module.Session.__metadata__[0]) -> None:
            await session.execute(delete(Invoice))

        module.router.delete("/", status_code=204)(purge)
        added.include_router(module.router)
        async with serving(added) as served, httpx.AsyncClient(base_url=served.url) as later:
            answers = [
                await later.delete("/invoices/", headers=headers)
                for headers in ({}, _bearer("bob"), _bearer("ada"))
            ]
            assert [each.status_code for each in answers] == [MISSING_TOKEN, 403, 204]
        del client
    assert await _count(database) == 0


async def test_a_refusal_says_how_to_authenticate(correct: Block, database: Database) -> None:
    async with _invoices(correct, database) as (_, client, _opened):
        wrong = await client.delete("/invoices/7", headers=_bearer("eve"))
        missing = await client.delete("/invoices/7")
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert missing.headers.get("WWW-Authenticate") == ("Bearer" if MISSING_TOKEN == 401 else None)
    assert await _count(database) == 1


async def test_a_route_of_the_app_and_a_mounted_app_are_outside_of_the_guard(
    correct: Block, database: Database
) -> None:
    async with _invoices(correct, database) as (module, _, _opened):
        module.app.get("/invoices/7")(lambda: "open")
        whole, mounted = FastAPI(dependencies=[Depends(module.require_admin)]), FastAPI()
        mounted.get("/7")(lambda: "open")
        whole.get("/7")(lambda: "closed")
        whole.mount("/mounted", mounted)
        async with serving(module.app) as served, httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.get("/invoices/7")).status_code == 200
        async with serving(whole) as served, httpx.AsyncClient(base_url=served.url) as client:
            statuses = [(await client.get(path)).status_code for path in ("/7", "/mounted/7")]
            assert statuses == [MISSING_TOKEN, 200]


async def test_a_route_that_takes_the_user_shares_it_with_the_check(
    correct: Block, database: Database
) -> None:
    async with _invoices(correct, database) as (module, _, opened):
        app = FastAPI()

        async def who(user: Any = module.CurrentUser.__metadata__[0]) -> str:
            return f"{user.token}"

        module.router.get("/who")(who)
        app.include_router(module.router)
        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
            answer = await client.get("/invoices/who", headers=_bearer("ada"))
        assert (answer.json(), len(opened)) == ("ada", 1)


async def test_a_request_opens_one_session_for_the_whole_chain(
    correct: Block, database: Database
) -> None:
    async with _invoices(correct, database) as (_, client, opened):
        await client.delete("/invoices/7", headers=_bearer("ada"))
        assert len(opened) == 1
        await client.delete("/invoices/7", headers=_bearer("bob"))
        assert len(opened) == 2
        denied = await client.delete("/invoices/7")
        assert denied.status_code == MISSING_TOKEN


async def test_one_override_replaces_the_user_of_every_route(
    correct: Block, database: Database
) -> None:
    async with _invoices(correct, database) as (module, client, _opened):
        module.app.dependency_overrides[module.get_user] = lambda: User(is_admin=True)
        statuses = [
            (await client.post("/invoices/7/paid")).status_code,
            (await client.delete("/invoices/7")).status_code,
        ]
    assert statuses == [204, 204]


async def test_a_class_as_a_dependency_takes_its_constructor_from_the_query_string() -> None:
    app = FastAPI()

    @app.get("/class")
    async def by_class(service: Annotated[LimitedService, Depends()]) -> int:
        return service.limit

    @app.get("/function")
    async def by_function(
        service: Annotated[LimitedService, Depends(get_limited_service)],
    ) -> int:
        return service.limit

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        limits = [
            (await client.get(path, params={"limit": 9})).json() for path in ("/class", "/function")
        ]
    assert limits == [9, 100]
