"""What a TaskGroup raises is a group: except passes it by, except* looks into it."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from tests.proofs.harness import Block, Witness
from tests.services import serving


class NotFound(LookupError):
    pass


class Unavailable(ConnectionError):
    pass


FINE, NO_CUSTOMER, NO_STOCK, BOTH_DOWN, BUG = range(1, 6)


def _given() -> dict[str, Any]:
    """Two look-ups; where both fail, they do so in one turn of the loop."""
    both = asyncio.Barrier(2)

    async def fetch_customer(order_id: int) -> str:
        await both.wait()
        if order_id in (NO_CUSTOMER, BOTH_DOWN):
            raise NotFound(order_id)
        row = {"name": "Ada"}
        return row["nmae" if order_id == BUG else "name"]

    async def fetch_stock(order_id: int) -> str:
        await both.wait()
        if order_id in (NO_STOCK, BOTH_DOWN):
            raise Unavailable(order_id)
        return "7"

    return {
        "NotFound": NotFound,
        "Unavailable": Unavailable,
        "fetch_customer": fetch_customer,
        "fetch_stock": fetch_stock,
    }


async def _statuses(app: FastAPI) -> list[int]:
    """The status of each of the five orders."""
    async with (
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=10) as client,
    ):
        orders = (FINE, NO_CUSTOMER, NO_STOCK, BOTH_DOWN, BUG)
        answers = [await client.get(f"/orders/{each}") for each in orders]
    assert answers[0].json() in (None, {"customer": "Ada", "stock": "7"})
    return [answer.status_code for answer in answers]


async def _fail(error: Exception) -> None:
    raise error


async def test_incorrect_answers_500_to_what_it_means_to_catch(
    incorrect: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert await _statuses(incorrect.run(**_given()).app) == [200, 500, 500, 500, 500]
    witness.observed(incorrect="a missing row, a service down, both: 500, 500, 500")


async def test_correct_answers_404_and_503(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _statuses(correct.run(**_given()).app) == [200, 404, 503, 503, 500]
    assert "unhandled errors in a TaskGroup (1 sub-exception)" in caplog.text
    assert "KeyError: 'nmae'" in caplog.text
    witness.observed(correct="a missing row, a service down, both: 404, 503, 503")


async def test_a_lookup_error_hides_a_misspelt_key(
    correct: Block, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    broad = replace(correct, code=correct.code.replace("except* NotFound", "except* LookupError"))
    assert broad.code != correct.code
    assert await _statuses(broad.run(**_given()).app) == [200, 404, 503, 503, 404]
    assert caplog.records == []


async def test_two_http_exceptions_raised_inside_except_star_are_a_500() -> None:
    app = FastAPI()
    fetch = _given()

    @app.get("/orders/{order_id}")
    async def read_order(order_id: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch["fetch_customer"](order_id))
                group.create_task(fetch["fetch_stock"](order_id))
        except* NotFound:
            raise HTTPException(404) from None
        except* Unavailable:
            raise HTTPException(503) from None

    single = [404, 503] if sys.version_info >= (3, 11, 4) else [500, 500]
    assert await _statuses(app) == [200, *single, 500, 500]


async def test_each_clause_runs_once_and_the_rest_is_raised_as_a_group() -> None:
    ran: list[tuple[str, int]] = []

    async def run() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for error in (LookupError(1), LookupError(2), ConnectionError(), TypeError("bug")):
                    group.create_task(_fail(error))
        except* LookupError as errors:
            ran.append(("lookup", len(errors.exceptions)))
        except* ConnectionError as errors:
            ran.append(("connection", len(errors.exceptions)))

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert ran == [("lookup", 2), ("connection", 1)]
    assert [repr(each) for each in caught.value.exceptions] == ["TypeError('bug')"]


async def test_a_group_may_hold_groups() -> None:
    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail(LookupError()))

    found: ExceptionGroup[LookupError] | None = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(nested())
    except* LookupError as errors:
        found = errors
    assert found
    assert isinstance(found.exceptions[0], ExceptionGroup)


async def test_except_exception_catches_a_group_and_except_not_found_does_not() -> None:
    async def caught_by(kind: type[Exception]) -> bool:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail(NotFound()))
        except kind:
            return True
        except BaseException:
            return False
        return False

    kinds: tuple[type[Exception], ...] = (Exception, ExceptionGroup, NotFound, LookupError)
    assert [await caught_by(kind) for kind in kinds] == [True, True, False, False]


def test_except_star_catches_a_bare_exception_as_a_group_of_one() -> None:
    found: ExceptionGroup[LookupError] | None = None
    try:
        raise LookupError
    except* LookupError as errors:
        found = errors
    assert found
    assert len(found.exceptions) == 1


@pytest.mark.parametrize("statement", ["return 1", "break", "continue"])
def test_except_star_cannot_be_left_by(statement: str, witness: Witness) -> None:
    code = f"def f():\n for _ in x:\n  try: pass\n  except* OSError: {statement}"
    with pytest.raises(SyntaxError) as caught:
        compile(code, "x", "exec")
    witness.saw(caught.value)


def test_except_and_except_star_do_not_share_a_try(witness: Witness) -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("try: pass\nexcept OSError: pass\nexcept* KeyError: pass", "x", "exec")
    witness.saw(caught.value)
