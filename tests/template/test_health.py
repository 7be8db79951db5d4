"""Health, metrics and the pool while the database is slow, silent or gone."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx

from tests.services import (
    Database,
    Postgres,
    Program,
    free_port,
    proxied,
)
from tests.template.harness import (
    PATIENT,
    POOL_SIZE,
    SOON,
    assert_problem,
    connected,
    create,
    locked,
    metrics,
    ready,
    running,
    status,
    until,
    waiting,
)


async def test_a_process_is_not_ready_while_the_database_is_stopped(
    client: httpx.AsyncClient, server: Postgres
) -> None:
    assert await status(client, "/health/ready") == 200
    await asyncio.to_thread(server.stop)
    try:
        assert await status(client, "/health/ready") == 503
        assert await status(client, "/health/live") == 200
        answer = await client.get("/orders/1")
    finally:
        await asyncio.to_thread(server.start)
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    await until(lambda: ready(client))
    assert (await create(client)).status_code == 201


async def test_a_process_is_not_ready_while_the_database_accepts_and_never_answers(
    folder: Path,
) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        address = f"postgresql+asyncpg://postgres@127.0.0.1:{silent.getsockname()[1]}/shop"
        with running(folder, database_url=address, connect_timeout=PATIENT) as program:
            async with connected(program) as client:
                assert await status(client, "/health/ready") == 503


async def test_a_process_answers_while_its_connected_database_is_silent(
    folder: Path, shop: Database, program: Program
) -> None:
    async with proxied(shop.server.port) as proxy:
        address = shop.url().replace(str(shop.server.port), str(proxy.port))
        with running(folder, database_url=address, command_timeout=1) as silenced:
            async with connected(silenced) as client:
                assert await ready(client)
                assert await status(client, "/orders/999999") == 404
                proxy.answering.clear()
                assert await status(client, "/orders/999999") == 503  # the ping of its connection
                assert await status(client, "/health/ready") == 503
                proxy.answering.set()
                await until(lambda: ready(client))


async def test_a_flood_of_checks_takes_one_connection_beside_the_pool(
    folder: Path, server: Postgres
) -> None:
    await server.create_database("few").execute(
        f"CREATE ROLE few LOGIN CONNECTION LIMIT {POOL_SIZE + 1}"
    )
    address = server.url("few", "asyncpg").replace("postgres@", "few@")
    with running(folder, database_url=address, pool_size=POOL_SIZE, pool_timeout=PATIENT) as few:
        async with connected(few) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.get("/health/ready")) for _ in range(50)]
    assert [task.result().status_code for task in tasks] == [200] * 50


async def test_a_process_is_not_ready_while_its_pool_is_exhausted(
    client: httpx.AsyncClient, shop: Database
) -> None:
    numbers = range(1, POOL_SIZE + 2)
    async with asyncio.TaskGroup() as group, locked(shop):
        tasks = [group.create_task(create(client, number)) for number in numbers]
        await until(lambda: waiting(shop, POOL_SIZE))
        measured = await metrics(client)
        assert measured["db_pool_checked_out"] == measured["db_pool_limit"] == POOL_SIZE
        async with asyncio.timeout(SOON):
            answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"database": "up", "pool": "down"})
        assert await status(client, "/health/live") == 200
    assert {task.result().status_code for task in tasks} == {201}
    await until(lambda: ready(client))
    assert (await metrics(client))["db_pool_checked_out"] == 0


async def test_a_request_that_gets_no_connection_in_time_is_a_503(
    folder: Path, server: Postgres
) -> None:
    database = server.create_database()
    with running(
        folder, database_url=database.url(), create_tables="true", pool_size=1, pool_timeout=0.1
    ) as program:
        async with (
            connected(program) as client,
            asyncio.TaskGroup() as group,
            locked(database),
        ):
            first = group.create_task(create(client))
            await until(lambda: waiting(database, 1))
            second = await client.get("/orders/1")
    assert first.result().status_code == 201
    assert_problem(second, 503)
    assert second.headers["Retry-After"] == "1"
