"""A dependency that ends an exception of the route takes it from the client and from the handlers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("number > 0"),)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


UNKNOWN = ("GET", "/orders/1")
NO_NUMBER = ("GET", "/orders/seven")
FIRST = SECOND = ("POST", "/orders/7")
REFUSED = ("POST", "/orders/0")
FOUND = ("GET", "/orders/7")


async def _asked(app: Any, *requests: tuple[str, str]) -> list[httpx.Response]:
    """The answers that a client reads, one request after the other.

    uvicorn closes a connection whose request fails after its response, so none is used twice.
    """
    client = httpx.AsyncClient(headers={"Connection": "close"})
    async with serving(app) as served, client:
        client.base_url = httpx.URL(served.url)
        return [await client.request(*each) for each in requests]


def _statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


async def _ordered(block: Block, database: Database) -> tuple[list[int], int]:
    """The statuses of six requests, and the rows that are there afterwards."""
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = block.run(SessionFactory=factory, Order=Order)
        asked = (UNKNOWN, NO_NUMBER, FIRST, SECOND, REFUSED, FOUND)
        answers = await _asked(module.app, *asked)
    assert answers[2].json() == answers[5].json() == {"number": 7}
    return _statuses(answers), await database.fetchval("SELECT count(*) FROM orders")


async def test_incorrect_answers_500_for_what_is_no_error_and_201_for_what_is_lost(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _ordered(incorrect, database) == ([500, 500, 201, 201, 201, 200], 1)
    assert caplog.text.count("UnboundLocalError") == 2
    assert caplog.messages.count("rolled back") == 4
    witness.saw(caplog.text)
    witness.observed(
        incorrect="unknown 500, no number 500, second with its number 201, refused by a check 201"
    )


async def test_correct_answers_what_the_route_and_the_commit_raise(
    correct: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _ordered(correct, database) == ([404, 422, 201, 409, 500, 200], 1)
    assert "CheckViolation" in caplog.text
    assert "UniqueViolation" not in caplog.text
    witness.observed(
        correct="unknown 404, no number 422, second with its number 409, refused by a check 500"
    )


async def test_correct_names_the_cause_and_lets_errors_of_other_drivers_pass(
    correct: Block, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    causes: list[BaseException | None] = []
    async with engine_with(Base, database.url()) as engine:
        factory: Any = async_sessionmaker(engine, class_=AsyncSession)
        module = correct.run(SessionFactory=factory, Order=Order)
        app: FastAPI = module.app

        @app.exception_handler(409)
        async def on_conflict(_: Request, error: HTTPException) -> Response:
            causes.append(error.__cause__)
            return Response(status_code=409)

        @app.get("/other")
        async def other(session: Any = module.Session.__metadata__[0]) -> None:
            raise IntegrityError("", None, Exception("without an SQLSTATE"))

        answers = await _asked(app, FIRST, SECOND, ("GET", "/other"))
    assert _statuses(answers) == [201, 409, 500]
    assert [type(cause) for cause in causes] == [IntegrityError]
    assert "AttributeError" not in caplog.text


async def test_in_request_scope_fastapi_says_that_the_response_was_not_awaited(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    by_default = replace(incorrect, code=incorrect.code.replace(', scope="function"', ""))
    statuses, rows = await _ordered(by_default, database)
    assert (statuses, rows) == ([500, 500, 201, 201, 201, 200], 1)
    assert caplog.text.count("FastAPIError: Response not awaited.") == 2
    witness.saw(caplog.text)


async def test_in_request_scope_correct_comes_too_late_with_its_409(
    database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    correct = RuleFile.load("fastapi-yield-errors").block(correct=True)
    assert ', scope="function"' in correct.code
    by_default = replace(correct, code=correct.code.replace(', scope="function"', ""))
    assert await _ordered(by_default, database) == ([404, 422, 201, 201, 201, 200], 1)
    witness.saw(caplog.text)
    assert "response already started" in caplog.text


async def _again() -> AsyncIterator[int]:
    try:
        yield 1
    except Exception:
        yield 2


def _again_in_a_thread() -> Iterator[int]:
    try:
        yield 1
    except Exception:
        yield 2


async def _twice() -> AsyncIterator[int]:
    yield 1
    yield 2


async def _never() -> AsyncIterator[int]:
    try:
        value = int("")
    except ValueError:
        return
    yield value


async def _unavailable() -> AsyncIterator[int]:
    try:
        value = int("")
    except ValueError as error:
        raise HTTPException(503) from error
    yield value


RETURNS = """
async def returns():
    try:
        yield 1
    finally:
        return
"""


def _returning() -> Any:
    """A dependency of which Python 3.14 warns where it is compiled."""
    module: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(RETURNS, module)
    return module["returns"]


def _routes(dependency: Any, scope: Any) -> FastAPI:
    """A service whose dependency is this one, with a route that answers and one that raises."""
    app = FastAPI()

    @app.get("/works")
    async def works(value: int = Depends(dependency, scope=scope)) -> int:
        return value

    @app.get("/raises")
    async def raises(value: int = Depends(dependency, scope=scope)) -> int:
        raise HTTPException(404)

    return app


WORKS, RAISES = ("GET", "/works"), ("GET", "/raises")


@pytest.mark.parametrize(
    ("dependency", "scope", "statuses", "message"),
    [
        (_again, "function", [200, 500], "RuntimeError: generator didn't stop after athrow()"),
        (_again, "request", [200, 500], "RuntimeError: generator didn't stop after athrow()"),
        (_again_in_a_thread, None, [200, 500], "RuntimeError: generator didn't stop after throw()"),
        (_twice, "function", [500, 404], "RuntimeError: generator didn't stop\n"),
        (_twice, "request", [200, 404], "RuntimeError: generator didn't stop\n"),
        (_never, None, [500, 500], "RuntimeError: generator didn't yield"),
        (_unavailable, None, [503, 503], ""),
        (_returning(), "request", [200, 500], "FastAPIError: Response not awaited."),
        (_returning(), "function", [200, 500], "UnboundLocalError: "),
    ],
)
async def test_what_else_ends_an_exception_or_gives_no_value(
    dependency: Any,
    scope: Any,
    statuses: list[int],
    message: str,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    assert _statuses(await _asked(_routes(dependency, scope), WORKS, RAISES)) == statuses
    assert message in caplog.text + "\n"
    assert bool(message) == bool(caplog.text)
    witness.saw(caplog.text)
