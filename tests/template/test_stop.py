"""The webhook, and how a process ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.services import (
    Postgres,
    Program,
    serving,
)
from tests.template.harness import (
    PATIENT,
    connected,
    create,
    locked,
    log_lines,
    metrics,
    ready,
    running,
    until,
    waiting,
)


async def assert_stopped(program: Program, *, codes: Sequence[int] = (0, -signal.SIGTERM)) -> None:
    """It ends by itself, and closes what it had opened, the last first."""
    # uvicorn from 0.29 on sends itself the signal again, once it has shut down.
    assert await asyncio.to_thread(program.process.wait, 30) in codes
    closed = [line["resource"] for line in log_lines(program) if line["message"] == "closed"]
    assert closed == ["http", "probe", "engine"]


async def test_after_sigterm_a_process_is_not_ready_and_answers_all_that_still_comes(
    folder: Path, server: Postgres
) -> None:
    database = server.create_database()
    with running(
        folder, database_url=database.url(), create_tables="true", drain_time=PATIENT
    ) as program:
        async with (
            connected(program) as client,
            connected(program) as late,
            asyncio.TaskGroup() as group,
        ):
            async with locked(database):
                requests = [group.create_task(create(client, 1))]
                await until(lambda: waiting(database, 1))
                program.process.terminate()
                await until(lambda: not_ready(client))
                answer = await client.get("/health/ready")
                assert answer.json() == {"process": "draining"}
                assert (await late.get("/health/live")).status_code == 200
                requests.append(group.create_task(create(late, 2)))
                await until(lambda: waiting(database, 2))
                program.process.send_signal(signal.SIGINT)  # ends the drain
                await until(lambda: "Waiting for connections" in program.output())
            await assert_stopped(program, codes=(0, 1, -signal.SIGINT))
    assert [request.result().status_code for request in requests] == [201, 201]
    assert await database.fetchval("SELECT count(*) FROM orders") == 2


async def not_ready(client: httpx.AsyncClient) -> bool:
    return not await ready(client)


async def test_what_uvicorn_cancels_cleans_up_before_clients_and_engine_are_closed(
    extended: Path, server: Postgres
) -> None:
    database = server.create_database()
    told: list[str] = []

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(webhook, lifespan="off") as hook:
        with running(
            extended,
            options={"timeout-graceful-shutdown": 1},
            database_url=database.url(),
            create_tables="true",
            webhook_url=hook.url,
            stop_timeout=5,
        ) as program:
            async with connected(program) as client:
                paths = ("/extra/cleaning", "/extra/stubborn")
                requests = [asyncio.create_task(client.get(path)) for path in paths]
                await until(lambda: program.output().count("begun") == len(requests))
                program.process.terminate()
                await assert_stopped(program)
                await asyncio.gather(*requests, return_exceptions=True)
            lines = log_lines(program)
    assert told == ["/"]
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
    (cleaned,) = [line for line in lines if line.get("path") == "/extra/cleaning"]
    assert (cleaned["status"], cleaned["error"]) == (None, "CancelledError")
    (late,) = [line for line in lines if line["message"].startswith("still running")]
    closed = [line for line in lines if line["message"] == "closed"]
    assert lines.index(cleaned) < lines.index(late) < lines.index(closed[0])


async def test_a_background_task_holds_no_connection_and_is_awaited_after_sigterm(
    folder: Path, server: Postgres
) -> None:
    told: list[dict[bytes, bytes]] = []
    released = asyncio.Event()

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        told.append(dict(scope["headers"]))
        await released.wait()
        headers = [(b"set-cookie", b"of=one; Path=/")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
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
                first = await create(client, 1)
                assert first.status_code == 201
                await until(lambda: told)
                assert (await metrics(client))["db_pool_checked_out"] == 0
                released.set()
                notified = "SELECT count(notified_at) FROM orders"
                await until(lambda: database.fetchval(notified))
                released.clear()
                second = await create(client, 2)
                await until(lambda: len(told) == 2)
                program.process.terminate()
                await until(lambda: "Waiting for background tasks" in program.output())
                released.set()
                await assert_stopped(program)
                assert "hunter2" not in program.output()
    for answer, headers in zip((first, second), told, strict=True):
        assert headers[b"x-request-id"].decode() == answer.headers["X-Request-ID"]
        assert headers[b"idempotency-key"].decode() == f"order-{answer.json()['id']}"
        assert b"cookie" not in headers
    assert await database.fetchval(notified) == 2


async def test_a_webhook_that_fails_is_logged_without_its_address_and_the_order_stays(
    folder: Path, server: Postgres
) -> None:
    refusals = iter([404, 302, None])

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        if (status := next(refusals)) is None:
            await asyncio.sleep(PATIENT)  # longer than http_timeout
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    database = server.create_database()
    async with contextlib.AsyncExitStack() as stack:
        hook = await stack.enter_async_context(
            serving(webhook, lifespan="off", timeout_graceful_shutdown=1)
        )
        with running(
            folder,
            database_url=database.url(),
            create_tables="true",
            webhook_url=f"{hook.url}/hunter2",
            http_timeout=1,
        ) as program:
            async with connected(program) as client:
                for number in (1, 2, 3, 4):
                    if number == 4:
                        await stack.aclose()  # nobody listens
                    answer = await create(client, number)
                    assert answer.status_code == 201
                    message = f"the webhook was not told of order {answer.json()['id']}"
                    ids = await until(partial(logged, program, message))
                    assert ids == [answer.headers["X-Request-ID"]]
            assert "hunter2" not in program.output()
    assert await database.fetchval("SELECT count(*) FROM orders") == 4
    assert await database.fetchval("SELECT count(notified_at) FROM orders") == 0


def logged(program: Program, message: str) -> list[str]:
    """Give the request ids of the lines that begin so."""
    return [
        line["request_id"] for line in log_lines(program) if line["message"].startswith(message)
    ]
