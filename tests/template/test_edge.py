"""Behind a proxy, and bodies that are too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.services import Database, Program
from tests.template.harness import MAX_BODY, assert_problem, connected, running

FORWARDED = {
    "Host": "shop.example.com",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.7",
}


async def test_behind_the_proxy_of_the_run_line_a_redirect_stays_https(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/orders/1/", headers=FORWARDED)
    assert (answer.status_code, answer.headers["Location"]) == (
        307,
        "https://shop.example.com/orders/1",
    )


async def test_what_somebody_else_says_to_have_forwarded_is_not_believed(
    folder: Path, shop: Database
) -> None:
    options = {"forwarded-allow-ips": "192.0.2.1"}
    with running(folder, database_url=shop.url(), options=options) as program:
        async with connected(program) as client:
            answer = await client.get("/orders/1/", headers=FORWARDED)
    assert answer.headers["Location"] == "http://shop.example.com/orders/1"


async def chunked(size: int) -> AsyncIterator[bytes]:
    """Without a content-length."""
    for start in range(0, size, 100):
        yield b"x" * min(100, size - start)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_is_taken_up_to_the_limit_and_refused_beyond(
    declared: bool, extra: httpx.AsyncClient
) -> None:
    def body(size: int) -> bytes | AsyncIterator[bytes]:
        return b"x" * size if declared else chunked(size)

    answer = await extra.post("/extra/length", content=body(MAX_BODY))
    assert (answer.status_code, answer.json()) == (200, MAX_BODY)
    for path in ("/extra/length", "/orders"):
        for size in (MAX_BODY + 1, MAX_BODY * 1000):
            answer = await extra.post(path, content=body(size))
            assert_problem(answer, 413)
            assert answer.json()["detail"] == f"The limit is {MAX_BODY} bytes."


async def in_two_parts() -> AsyncIterator[bytes]:
    """Each is within the limit, and is received by itself."""
    for size in (MAX_BODY, 1):
        yield b"x" * size
        await asyncio.sleep(0.2)


async def test_what_counts_is_all_that_is_received(extra: httpx.AsyncClient) -> None:
    assert_problem(await extra.post("/extra/length", content=in_two_parts()), 413)


async def test_after_a_refused_body_the_service_goes_on(
    extra: httpx.AsyncClient, extended_program: Program
) -> None:
    assert_problem(await extra.post("/orders", content=chunked(MAX_BODY + 1)), 413)
    assert (await extra.post("/orders", json={"number": 1})).status_code == 201
    assert "LocalProtocolError" not in extended_program.output()
