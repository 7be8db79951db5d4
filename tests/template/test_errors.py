"""What goes wrong, in the answer and in the log."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.services import (
    Program,
)
from tests.template.harness import (
    ALLOWED,
    ERRORS,
    FOREIGN,
    REQUESTS,
    assert_problem,
    log_lines,
    until,
)


async def test_every_error_is_a_problem_document_that_the_allowed_origin_may_read(
    client: httpx.AsyncClient, broken: None
) -> None:
    for expected, (method, path, body) in ERRORS.items():
        answer = await client.request(method, path, json=body, headers={"Origin": ALLOWED})
        assert_problem(answer, expected)
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert answer.headers["Access-Control-Expose-Headers"] == "X-Request-ID"
        assert "hunter2" not in answer.text
        assert "relation" not in answer.text


async def test_no_answer_may_be_read_by_another_origin(
    client: httpx.AsyncClient, broken: None
) -> None:
    for expected, (method, path, body) in REQUESTS.items():
        answer = await client.request(method, path, json=body, headers={"Origin": FOREIGN})
        assert answer.status_code == expected
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(("origin", "granted"), [(ALLOWED, 200), (FOREIGN, 400)])
async def test_a_preflight_is_granted_to_the_allowed_origin_alone(
    client: httpx.AsyncClient, origin: str, granted: int
) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "Authorization, Content-Type",
    }
    answer = await client.options("/orders", headers=asked)
    assert answer.status_code == granted
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers.get("Access-Control-Allow-Origin") == (
        ALLOWED if granted == 200 else None
    )


async def test_the_openapi_document_describes_errors_as_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/orders", "/orders/{order_id}"}
    documented = document["paths"]["/orders"]["post"]["responses"]
    assert {key: list(value["content"]) for key, value in documented.items()} == {
        "201": ["application/json"],
        "default": ["application/problem+json"],
    }


async def test_each_request_has_one_log_line_with_the_id_of_its_answer(
    client: httpx.AsyncClient, program: Program, broken: None
) -> None:
    expected = []
    for code, (method, path, body) in REQUESTS.items():
        answer = await client.request(method, path, json=body)
        expected.append((answer.headers["X-Request-ID"], method, path, code))
    ids = {request_id for request_id, *_ in expected}
    assert len(ids) == len(REQUESTS)

    def lines() -> list[dict[str, Any]]:
        found = [line for line in log_lines(program) if line["message"] == "request"]
        return [line for line in found if line["request_id"] in ids]

    await until(lambda: len(lines()) >= len(REQUESTS))
    members = ("request_id", "method", "path", "status")
    assert [tuple(line[member] for member in members) for line in lines()] == expected
    errors = [line.get("error") for line in lines()]
    assert errors == [None, None, None, None, "ProgrammingError"]
    assert all(line["ms"] > 0 for line in lines())


async def test_a_path_cannot_forge_a_log_line(client: httpx.AsyncClient, program: Program) -> None:
    forged = '/nothing\n{"message": "request"}\r\u2028'
    answer = await client.get(quote(forged))
    assert_problem(answer, 404)
    asked = answer.headers["X-Request-ID"]

    def logged() -> list[str]:
        return [line["path"] for line in log_lines(program) if line["request_id"] == asked]

    assert await until(logged) == [forged]


async def test_an_answer_that_has_no_body_is_given_none(
    extra: httpx.AsyncClient, extended_program: Program
) -> None:
    for code in (204, 304):
        answer = await extra.get(f"/extra/unchanged/{code}")
        assert (answer.status_code, answer.content) == (code, b"")
        assert answer.headers["ETag"] == '"1"'
    assert "LocalProtocolError" not in extended_program.output()
