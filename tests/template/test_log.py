"""Every line of the log is JSON and has the id of its request."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.services import Program
from tests.template.harness import assert_problem, log_lines, until

GIVEN = "edge-0123456789.ABC_def"


async def tracebacks(program: Program, request_id: str) -> list[dict[str, Any]]:
    """Give the lines of this request that have one, once its access line is there as well."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in log_lines(program) if line["request_id"] == request_id]

    def ended() -> bool:
        found = lines()
        return any("traceback" in line for line in found) and any("ms" in line for line in found)

    await until(ended)
    return [line for line in lines() if "traceback" in line]


async def access_line(program: Program, request_id: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        lines = [line for line in log_lines(program) if line["message"] == "request"]
        return [line for line in lines if line["request_id"] == request_id]

    (line,) = await until(found)
    assert isinstance(line, dict)
    return line


@pytest.mark.parametrize(("path", "status"), [("failing", 500), ("failing/later", 200)])
async def test_a_traceback_is_one_line_with_the_id_of_its_request(
    path: str, status: int, extra: httpx.AsyncClient, extended_program: Program
) -> None:
    answer = await extra.get(f"/extra/{path}")
    assert answer.status_code == status
    (line,) = await tracebacks(extended_program, answer.headers["X-Request-ID"])
    assert line["level"] == "ERROR"
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["traceback"].endswith("ValueError: it failed")
    plain = [text for text in extended_program.output().splitlines() if not text.startswith("{")]
    assert not [text for text in plain if "Traceback" in text or "ValueError" in text]


async def test_the_connection_of_a_failed_request_is_used_again(
    extra: httpx.AsyncClient,
) -> None:
    used = set()
    for path in ("failing", "failing/later") * 3:
        answer = await extra.get(f"/extra/{path}")
        used.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(used) == 1


async def test_requests_that_have_ended_are_not_waited_for(extra: httpx.AsyncClient) -> None:
    for path in ("failing", "failing/later", "running", "running"):
        answer = await extra.get(f"/extra/{path}")
    assert answer.json() == 1  # itself


async def test_an_answer_that_fails_midway_has_its_traceback_and_its_access_line(
    extra: httpx.AsyncClient, extended_program: Program
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await extra.get("/extra/failing/midway", headers={"X-Request-ID": GIVEN})
    (line,) = await tracebacks(extended_program, GIVEN)
    assert "ValueError: it failed" in line["traceback"]
    request = await access_line(extended_program, GIVEN)
    assert (request["status"], request["path"]) == (200, "/extra/failing/midway")
    assert request["error"] in {"ValueError", "ExceptionGroup"}  # the latter before Starlette 1
    # The server was told, so it does not take the answer for a whole one.
    assert "returned without completing response" not in extended_program.output()


async def test_what_uvicorn_says_is_json_too(program: Program) -> None:
    text = program.output()
    _, started = text.split("Application startup complete.", 1)
    assert [json.loads(line) for line in started.splitlines()[1:]]
    lines = [line["message"] for line in log_lines(program)]
    assert "Application startup complete." in lines


@pytest.mark.parametrize(
    "given", ["x" * 7, "x" * 129, "1234 5678", "1234\t5678", "12345678;", "<script>", "é" * 8, ""]
)
async def test_an_id_of_the_edge_that_is_odd_is_not_taken_over(
    given: str, extra: httpx.AsyncClient
) -> None:
    answer = await extra.get("/health/live", headers=[(b"X-Request-ID", given.encode())])
    assert answer.headers["X-Request-ID"].isalnum()
    assert len(answer.headers["X-Request-ID"]) == 32


async def test_an_id_of_a_trusted_edge_is_in_the_answer_and_in_the_log(
    extra: httpx.AsyncClient, extended_program: Program
) -> None:
    for given in ("x" * 8, "x" * 128, "0189F0-ab_c.d"):
        answer = await extra.get("/nothing", headers={"X-Request-ID": given})
        assert_problem(answer, 404)
        assert answer.headers["X-Request-ID"] == given
        assert (await access_line(extended_program, given))["status"] == 404


async def test_an_id_that_anybody_may_send_is_not_taken_over(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"X-Request-ID": GIVEN})
    assert len(answer.headers["X-Request-ID"]) == 32
