"""The webhook, and how a process ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.services import (
    Database,
    Postgres,
    Program,
    free_port,
    serving,
)
from tests.template.harness import (
    PATIENT,
    connected,
    create,
    locked,
    log_lines,
    metrics,
    running,
    until,
    waiting,
)


async def terminate(program: Program, waits_for: str) -> None:
    """Send SIGTERM, and return once uvicorn says what it waits for."""
    program.process.terminate()
    await until(lambda: f"Waiting for {waits_for}" in program.output())


async def assert_stopped(program: Program) -> None:
    """It ends by itself, and closes what it had opened, the last first."""
    # uvicorn from 0.29 on sends itself the signal again, once it has shut down.
    assert await asyncio.to_thread(program.process.wait, 30) in (0, -15)
    closed = [line["resource"] for line in log_lines(program) if line["message"] == "closed"]
    assert closed == ["http", "probe", "engine"]


async def test_a_request_in_flight_is_answered_after_sigterm(
    folder: Path, server: Postgres
) -> None:
    database = server.create_database()
    with running(folder, database_url=database.url(), create_tables="true") as program:
        async with connected(program) as client, asyncio.TaskGroup() as group:
            async with locked(database):
                request = group.create_task(create(client))
                await until(lambda: waiting(database, 1))
                await terminate(program, "connections to close")
            await assert_stopped(program)
    assert request.result().status_code == 201
    assert await database.fetchval("SELECT count(*) FROM orders") == 1


async def test_a_background_task_holds_no_connection_and_is_awaited_after_sigterm(
    folder: Path, server: Postgres
) -> None:
    told: list[str] = []
    released = asyncio.Event()

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        told.append(dict(scope["headers"])[b"x-request-id"].decode())
        await released.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    database = server.create_database()
    async with serving(webhook, lifespan="off") as hook:
        with running(
            folder,
            database_url=database.url(),
            create_tables="true",
            webhook_url=f"{hook.url}/hunter2",
            http_timeout=PATIENT,
        ) as program:
            async with connected(program) as client:
                answer = await create(client)
                assert answer.status_code == 201
                await until(lambda: told)
                assert (await metrics(client))["db_pool_checked_out"] == 0
                await terminate(program, "background tasks to complete")
                released.set()
                await assert_stopped(program)
                assert "hunter2" not in program.output()
    assert told == [answer.headers["X-Request-ID"]]
    assert await database.fetchval("SELECT notified_at FROM orders") is not None


@pytest.mark.parametrize("refusal", [None, 404, 302])
async def test_a_webhook_that_fails_is_logged_without_its_address_and_the_order_stays(
    refusal: int | None, folder: Path, server: Postgres
) -> None:
    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": refusal, "headers": []})
        await send({"type": "http.response.body"})

    database = server.create_database()
    async with serving(webhook, lifespan="off") as hook:
        address = hook.url if refusal else f"http://127.0.0.1:{free_port()}"
        await assert_failure_is_logged(folder, database, f"{address}/hunter2")


async def assert_failure_is_logged(folder: Path, database: Database, address: str) -> None:
    with running(
        folder, database_url=database.url(), create_tables="true", webhook_url=address
    ) as program:
        async with connected(program) as client:
            answer = await create(client)
        assert answer.status_code == 201
        order_id = answer.json()["id"]
        message = f"the webhook was not told of order {order_id}"

        def logged() -> list[str]:
            lines = log_lines(program)
            return [line["request_id"] for line in lines if line["message"].startswith(message)]

        assert await until(logged) == [answer.headers["X-Request-ID"]]
        assert "hunter2" not in program.output()
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
