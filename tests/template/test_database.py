"""What the database does, and what a request is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.services import Database, Postgres, Program, Proxy, proxied
from tests.template.harness import (
    POOL_SIZE,
    SLOW,
    SOON,
    assert_problem,
    connected,
    create,
    locked,
    log_lines,
    ready,
    running,
    status,
    until,
    waiting,
)


def assert_unavailable(answer: httpx.Response) -> None:
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["detail"] == "The database is not available."


def assert_fault_of_ours(answer: httpx.Response) -> None:
    assert_problem(answer, 500)
    assert "Retry-After" not in answer.headers
    assert "database" not in answer.text


async def sql(client: httpx.AsyncClient, *statements: str) -> httpx.Response:
    return await client.post("/extra/sql", json=statements)


async def test_a_database_that_ends_is_stopped_and_never_answers_is_not_available(
    folder: Path,
) -> None:
    with Postgres() as own:
        address = own.url(driver="asyncpg")
        with running(folder, database_url=address, connect_timeout=1) as program:
            # As long as somebody is connected it is ending, and says 57P03 to all others.
            last = await asyncpg.connect(own.url())
            ending = asyncio.create_task(asyncio.to_thread(own.stop, "smart"))
            async with connected(program) as client:
                await until(lambda: "smart shutdown" in own.log)
                assert_unavailable(await client.get("/orders/1"))
                assert await status(client, "/health/ready") == 503
                await last.close()
                await ending
                assert_unavailable(await client.get("/orders/1"))
                assert await status(client, "/health/ready") == 503
                with socket.create_server(("127.0.0.1", own.port)):
                    async with asyncio.timeout(SOON):
                        answer = await client.get("/orders/1")
                    assert_unavailable(answer)
                async with await asyncio.start_server(hang_up, "127.0.0.1", own.port):
                    assert_unavailable(await client.get("/orders/1"))
            start = "the database is not available: "
            messages = [line["message"] for line in log_lines(program)]
            ended, refused, silent, hung_up = [text for text in messages if text.startswith(start)]
            assert "the database system is shutting down" in ended
            assert "ConnectionRefusedError" in refused
            assert "TimeoutError" in silent
            assert "connection was closed in the middle of operation" in hung_up


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse TLS, and end the connection when the client says who it is."""
    await reader.readexactly(8)
    writer.write(b"N")
    await reader.read(1)
    writer.close()


async def test_too_many_connections_are_not_available_and_no_permission_is_a_fault_of_ours(
    folder: Path, server: Postgres
) -> None:
    database = server.create_database("full")
    await database.execute("CREATE ROLE full_one LOGIN CONNECTION LIMIT 0")
    address = database.url().replace("postgres@", "full_one@")
    with running(folder, database_url=address) as program:
        async with connected(program) as client:
            assert_unavailable(await client.get("/orders/1"))
            assert await status(client, "/health/ready") == 503
            assert "too many connections for role" in program.output()
            await database.execute("ALTER ROLE full_one NOLOGIN")
            assert_fault_of_ours(await client.get("/orders/1"))
            assert await status(client, "/health/ready") == 503


async def test_a_request_whose_backend_was_ended_is_told_that_and_the_next_has_another(
    extra: httpx.AsyncClient, shop: Database
) -> None:
    for _ in range(POOL_SIZE):
        assert_unavailable(await extra.post("/extra/lost"))
    terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE $1"
    request = asyncio.create_task(sql(extra, "SELECT pg_sleep(0.9) /* ended */"))
    await until(lambda: shop.fetchval(terminate, "%0.9) /* ended%"))
    assert_unavailable(await request)
    assert (await sql(extra, "SELECT 1")).json() == 1


async def test_connections_that_died_while_idle_are_not_noticed_by_a_request(
    extra: httpx.AsyncClient, shop: Database
) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(POOL_SIZE):
            group.create_task(sql(extra, "SELECT pg_sleep(0.1)"))
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert len(await shop.fetch(f"{end} WHERE {others}")) >= POOL_SIZE
    for _ in range(POOL_SIZE + 1):
        assert (await sql(extra, "SELECT 1")).status_code == 200
    assert await ready(extra)


@contextmanager
def behind(proxy: Proxy, shop: Database, folder: Path) -> Iterator[Program]:
    address = shop.url().replace(str(shop.server.port), str(proxy.port))
    with running(
        folder, database_url=address, statement_timeout=SLOW, silence_timeout=SLOW + 1, pool_size=1
    ) as program:
        yield program


async def test_a_connection_that_falls_silent_is_not_available_and_not_used_again(
    extended: Path, shop: Database, program: Program
) -> None:
    async with proxied(shop.server.port) as proxy:
        with behind(proxy, shop, extended) as silenced:
            async with connected(silenced) as client:
                assert (await sql(client, "SELECT 1")).status_code == 200
                proxy.answering.clear()  # while it is idle: the ping hangs
                assert_unavailable(await sql(client, "SELECT 77"))
                proxy.answering.set()
                for last in (b"SELECT 77", b"COMMIT"):
                    assert (await sql(client, "SELECT 1")).status_code == 200
                    proxy.silent_after = last
                    request = asyncio.create_task(sql(client, "SELECT 77"))
                    await until(lambda: proxy.silent_after is None)
                    proxy.silent_after = b"ROLLBACK"
                    assert_unavailable(await request)
                    assert proxy.silent_after == b"ROLLBACK"  # nobody has sent it
                    proxy.silent_after = None
                    proxy.answering.set()


async def test_a_slow_statement_is_a_fault_of_ours_and_the_server_ends_it(
    extra: httpx.AsyncClient, shop: Database, extended_program: Program
) -> None:
    assert_fault_of_ours(await sql(extra, "SELECT pg_sleep(60)"))
    told = "canceling statement due to statement timeout"
    await until(lambda: told in extended_program.output())
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    assert await shop.fetchval(active, "%sleep(60%") == 0


async def test_who_waits_for_a_lock_gives_up_and_who_does_nothing_in_a_transaction_is_ended(
    extended: Path, shop: Database, program: Program
) -> None:
    with running(extended, database_url=shop.url(), lock_timeout=SLOW, idle_timeout=7) as limited:
        async with connected(limited) as client:
            async with locked(shop):
                assert_fault_of_ours(await sql(client, "SELECT count(*) FROM orders"))
            await until(lambda: "canceling statement due to lock timeout" in limited.output())
            told = "current_setting('idle_in_transaction_session_timeout')"
            right = f"SELECT 1 / CAST({told} = '7s' AS int)"
            assert (await sql(client, right)).status_code == 200
            assert (await sql(client, right.replace(" = ", " <> "))).status_code == 500


@pytest.mark.parametrize("fault", ["slow", "refused"])
async def test_a_fault_of_a_partner_is_not_called_one_of_the_database(
    fault: str, extra: httpx.AsyncClient
) -> None:
    assert_fault_of_ours(await extra.get(f"/extra/partner/{fault}"))


async def test_a_request_that_gets_no_connection_in_time_is_told_that_the_service_is_busy(
    folder: Path, server: Postgres
) -> None:
    database = server.create_database()
    with running(
        folder,
        database_url=database.url(),
        create_tables="true",
        pool_size=1,
        max_overflow=1,
        pool_timeout=0.1,
    ) as program:
        async with (
            connected(program) as client,
            asyncio.TaskGroup() as group,
            locked(database),
        ):
            first = [group.create_task(create(client, number)) for number in (1, 2)]
            await until(lambda: waiting(database, 2))
            third = await client.get("/orders/1")
    assert [task.result().status_code for task in first] == [201, 201]
    assert_problem(third, 503)
    assert third.headers["Retry-After"] == "1"
    assert third.json()["detail"] == "The service is busy."


async def test_a_connection_is_kept_open_on_the_way(extra: httpx.AsyncClient) -> None:
    assert (await sql(extra, "SHOW tcp_keepalives_idle")).json() == "60"


async def test_an_old_connection_is_replaced(extra: httpx.AsyncClient) -> None:
    async def pids() -> set[int]:
        answers = [await sql(extra, "SELECT pg_backend_pid()") for _ in range(2 * POOL_SIZE)]
        return {answer.json() for answer in answers}

    first = await pids()
    await asyncio.sleep(1.1)  # pool_recycle is 1
    assert not first & await pids()
