"""Only a response model keeps columns back, and it makes the answer faster."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse, ORJSONResponse
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.types import Message

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"
USERS = 100
OLDEST = version("fastapi") == "0.121.0"


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    password_hash: Mapped[str] = mapped_column(default=HASH)


class UserOut(BaseModel):
    id: int
    email: str


class UserInDatabase(UserOut):
    password_hash: str


ADA = UserInDatabase(id=1, email="ada@example.com", password_hash=HASH)


def _users(count: int = USERS) -> list[User]:
    return [
        User(id=number, email=f"{number}@example.com", password_hash=HASH)
        for number in range(1, count + 1)
    ]


@asynccontextmanager
async def _client(app: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as client:
        yield client


async def _list_users(block: Block, database: Database) -> list[dict[str, Any]]:
    """What a client gets of the 100 users in the database."""
    factory = async_sessionmaker(class_=AsyncSession)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with factory() as session:
            yield session

    async with engine_with(Base, database.url()) as engine:
        factory.configure(bind=engine)
        async with factory.begin() as session:
            session.add_all(_users()[::-1])
        module = block.run(Session=Annotated[AsyncSession, Depends(get_session)], User=User)
        async with _client(module.app) as client:
            listed: list[dict[str, Any]] = (await client.get("/users")).raise_for_status().json()
    return listed


SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/users",
    "raw_path": b"/users",
    "root_path": "",
    "query_string": b"",
    "headers": [],
    "server": ("127.0.0.1", 80),
    "client": ("127.0.0.1", 1),
}


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _seconds(*blocks: Block) -> list[float]:
    """Processor time in which each app answers with 1,000 users in memory: the least of 10."""
    users, statuses = _users(1000), set()

    class Result:
        def all(self) -> list[User]:
            return users

    class Session:
        async def scalars(self, _: Any) -> Result:
            return Result()

    async def send(message: Message) -> None:
        statuses.add(message.get("status", 200))

    given = {"Session": Annotated[Any, Depends(Session)], "User": User}
    apps = [block.run(**given).app for block in blocks]
    least = [float("inf")] * len(apps)
    for _ in range(10):
        for number, app in enumerate(apps):
            started = time.thread_time()
            await app(dict(SCOPE), _receive, send)
            least[number] = min(least[number], time.thread_time() - started)
    assert statuses == {200}
    return least


async def test_incorrect_sends_every_password_hash(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    listed = await _list_users(incorrect, database)
    assert [each.get("password_hash") for each in listed] == [HASH] * USERS
    witness.observed(
        incorrect="the password hashes of 100 of 100 users sent, in more than twice the processor time"
    )


async def test_correct_sends_the_fields_of_the_model_alone(
    correct: Block, database: Database, witness: Witness
) -> None:
    listed = await _list_users(correct, database)
    assert listed == [
        {"id": number, "email": f"{number}@example.com"} for number in range(1, USERS + 1)
    ]
    witness.observed(correct="the two fields of the model sent for each of 100 users")


async def test_correct_makes_the_answer_in_less_than_half_the_processor_time(
    incorrect: Block, correct: Block
) -> None:
    without, with_model = await _seconds(incorrect, correct)
    assert without > 2 * with_model


async def test_a_return_type_cuts_a_subclass_to_its_fields_but_not_a_response() -> None:
    app = FastAPI()

    @app.get("/subclass")
    async def subclass() -> UserOut:
        return ADA

    @app.get("/response", response_model=UserOut)
    async def response() -> JSONResponse:
        return JSONResponse(ADA.model_dump())

    async with _client(app) as client:
        answers = [(await client.get(path)).json() for path in ("/subclass", "/response")]
    assert [answer.get("password_hash") for answer in answers] == [None, HASH]
    assert answers[0] == {"id": 1, "email": "ada@example.com"}


async def test_an_object_that_does_not_fit_is_a_500(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()

    @app.get("/")
    async def read() -> UserOut:
        return {"id": "one"}  # type: ignore[return-value]

    async with _client(app) as client:
        assert (await client.get("/")).status_code == 500
    witness.saw(caplog.text)


def test_orjson_response_is_deprecated_and_needs_orjson(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.responses.orjson", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(AssertionError) as missing:
            ORJSONResponse([1])
    witness.saw(missing.value)
    witness.saw(*(f"{each.category.__name__}: {each.message}" for each in caught))
    assert len(caught) == (0 if OLDEST else 1)


LATE = "from __future__ import annotations\n"
HIDDEN = """
from typing import TYPE_CHECKING
from fastapi import FastAPI
if TYPE_CHECKING:
    from orders import Order
app = FastAPI()
@app.post("/orders")
async def create(order: Order) -> None: ...
"""


@pytest.mark.parametrize("head", ["", LATE])
async def test_a_body_whose_model_is_not_there_at_run_time_is_a_query_parameter(
    head: str, witness: Witness
) -> None:
    block = Block("hidden.py", 1, head + HIDDEN, correct=False)
    if not head and sys.version_info < (3, 14):
        with pytest.raises(NameError, match="'Order' is not defined"):
            block.run()
        return
    transport = httpx.ASGITransport(block.run().app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        refused = await client.post("/orders", json={"number": 7})
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["query", "order"]
        for method, path in (("POST", "/orders?order=7"), ("GET", "/openapi.json")):
            with pytest.raises(PydanticUserError) as caught:
                await client.request(method, path)
    witness.saw(caught.value)
