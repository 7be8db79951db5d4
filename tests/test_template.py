"""The template in assets/ under a real uvicorn, on a PostgreSQL of its own that is stopped too."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services import (
    Database,
    Postgres,
    Program,
    ServiceFailed,
    free_port,
    proxied,
    serving,
    serving_process,
)

TEMPLATE = Path(__file__).parents[1] / "assets" / "fastapi-app-template.py"
ALLOWED = "https://shop.example.com"
FOREIGN = "https://evil.example"
POOL_SIZE = 2
POOL_TIMEOUT = 60.0  # seconds
READY_TIMEOUT = 5.0  # seconds
# Seconds for an answer that must not wait for the pool, even on a busy machine.
SOON = 20.0
PATIENT = 60.0

# What goes wrong, by its status. The 500 needs a table that is not there.
ERRORS: dict[int, tuple[str, str, Any]] = {
    404: ("GET", "/nothing", None),
    405: ("PUT", "/orders", None),
    422: ("POST", "/orders", {"number": "hunter2"}),
    500: ("GET", "/orders/1", None),
}
REQUESTS = {200: ("GET", "/health/live", None), **ERRORS}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL that these tests may stop."""
    with Postgres() as own:
        yield own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the template lies as app.py, as its first lines say."""
    path = tmp_path_factory.mktemp("template")
    shutil.copy(TEMPLATE, path / "app.py")
    return path


@pytest.fixture(scope="module", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "CREATE_TABLES", "WEBHOOK_URL", "CORS_ORIGINS"):
            patch.delenv(name, raising=False)
        yield


def running(folder: Path, **settings: str | float) -> AbstractContextManager[Program]:
    """Start it with these settings."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--no-access-log", "--port", "{port}"]
    env = {name.upper(): str(value) for name, value in settings.items()}
    return serving_process(command, env=env, cwd=folder, path="/health/live", timeout=PATIENT)


@pytest.fixture(scope="module")
def shop(server: Postgres) -> Database:
    """The database of `program`."""
    return server.create_database("shop")


@pytest.fixture(scope="module")
def program(folder: Path, shop: Database) -> Iterator[Program]:
    """One for all tests that do not end it. Its pool is small, and requests wait long for it."""
    with running(
        folder,
        database_url=shop.url(),
        create_tables="true",
        cors_origins=json.dumps([ALLOWED]),
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT,
        command_timeout=PATIENT,
        ready_timeout=READY_TIMEOUT,
    ) as started:
        yield started


def connected(program: Program) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=program.url, timeout=PATIENT)


@pytest.fixture
async def client(program: Program, shop: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `program`, which has no orders yet."""
    await shop.execute("TRUNCATE orders")
    async with connected(program) as opened:
        yield opened


@asynccontextmanager
async def altered(database: Database, change: str, undo: str) -> AsyncIterator[None]:
    await database.execute(f"ALTER TABLE {change}")
    try:
        yield
    finally:
        await database.execute(f"ALTER TABLE {undo}")


@pytest.fixture
async def broken(program: Program, shop: Database) -> AsyncIterator[None]:
    """Without the table a read is an error that nobody handles."""
    async with altered(shop, "orders RENAME TO away", "away RENAME TO orders"):
        yield


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """While the body runs, every statement on `orders` waits and keeps its connection."""
    connection = await asyncpg.connect(database.dsn, ssl=False, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waiting(database: Database, count: int) -> bool:
    """Whether so many statements wait for `orders`."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
    return bool(await database.fetchval(query) == count)


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Give what the condition gives, or what is awaited from it, once that is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.05)


async def create(client: httpx.AsyncClient, number: int = 7) -> httpx.Response:
    return await client.post("/orders", json={"number": number})


async def status(client: httpx.AsyncClient, path: str) -> int:
    """Its status, which comes soon."""
    async with asyncio.timeout(SOON):
        return (await client.get(path)).status_code


async def ready(client: httpx.AsyncClient) -> bool:
    return await status(client, "/health/ready") == 200


async def metrics(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def log_lines(program: Program) -> list[dict[str, Any]]:
    """Give its JSON lines, and not those of uvicorn."""
    *lines, _unfinished = program.output().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


# The start.


def test_the_start_fails_and_names_the_address_that_is_missing(folder: Path) -> None:
    with pytest.raises(ServiceFailed) as failed, running(folder):
        pass
    assert "1 validation error for Settings\ndatabase_url\n  Field required" in str(failed.value)


def test_the_start_fails_and_names_all_faults_without_the_password(folder: Path) -> None:
    with (
        pytest.raises(ServiceFailed) as failed,
        running(
            folder,
            database_url="postgresql://postgres:hunter2@db/shop",  # asks for another driver
            cors_origins=json.dumps(["*", f"{ALLOWED}/", ALLOWED]),
            pool_size=0,
        ),
    ):
        pass
    message = str(failed.value)
    assert "4 validation errors for Settings\n" in message
    for name in ("database_url", "pool_size", "cors_origins.0", "cors_origins.1"):
        assert f"\n{name}\n" in message
    assert "hunter2" not in message


async def test_settings_are_read_from_a_dotenv_file(tmp_path: Path, server: Postgres) -> None:
    shutil.copy(TEMPLATE, tmp_path / "app.py")
    url = server.url(driver="asyncpg")
    (tmp_path / ".env").write_text(f"DATABASE_URL={url}\nPOOL_SIZE=7\nMAX_OVERFLOW=1\n")
    with running(tmp_path) as program:
        async with connected(program) as client:
            assert (await metrics(client))["db_pool_limit"] == 8
            assert await ready(client)


# Orders.


async def test_an_order_that_was_created_can_be_read(
    client: httpx.AsyncClient, shop: Database
) -> None:
    before = datetime.now(UTC)
    created = await create(client, 7)
    assert created.status_code == 201
    order = created.json()
    assert set(order) == {"id", "number", "created_at"}
    assert before <= datetime.fromisoformat(order["created_at"]) <= datetime.now(UTC)
    read = await client.get(f"/orders/{order['id']}")
    assert (read.status_code, read.json()) == (200, order)
    assert float(read.headers["Server-Timing"].removeprefix("app;dur=")) > 0
    assert await shop.fetchval("SELECT created_at FROM orders") >= before


async def test_an_order_that_does_not_exist_is_a_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/1")
    assert_problem(answer, 404)
    assert answer.json()["detail"] == "There is no such order."


async def test_a_duplicate_is_a_409_and_no_row(client: httpx.AsyncClient, shop: Database) -> None:
    assert (await create(client, 7)).status_code == 201
    assert_problem(await create(client, 7), 409)
    assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_a_duplicate_that_only_the_commit_notices_is_a_409_and_no_row(
    client: httpx.AsyncClient, shop: Database
) -> None:
    drop = "orders DROP CONSTRAINT uq_orders_number"
    add = "ADD CONSTRAINT uq_orders_number UNIQUE (number)"
    async with altered(shop, f"{drop}, {add} DEFERRABLE INITIALLY DEFERRED", undo=f"{drop}, {add}"):
        assert (await create(client, 7)).status_code == 201
        assert_problem(await create(client, 7), 409)
        assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_of_duplicates_at_the_same_time_one_is_created(
    client: httpx.AsyncClient, shop: Database
) -> None:
    async with asyncio.TaskGroup() as group, locked(shop):
        tasks = [group.create_task(create(client, 7)) for _ in range(POOL_SIZE)]
        await until(lambda: waiting(shop, POOL_SIZE))
    assert sorted(task.result().status_code for task in tasks) == [201, 409]
    assert await shop.fetchval("SELECT count(*) FROM orders") == 1


async def test_another_violated_constraint_is_no_conflict_and_its_detail_is_logged(
    client: httpx.AsyncClient, shop: Database, program: Program
) -> None:
    async with altered(
        shop, "orders ADD CONSTRAINT even CHECK (number % 2 = 0)", "orders DROP CONSTRAINT even"
    ):
        assert_problem(await create(client, 4711), 500)
    # SQLAlchemy hides what was sent, PostgreSQL does not.
    await until(lambda: "DETAIL:  Failing row contains (" in program.output())
    assert "4711" in program.output()
    assert "[SQL parameters hidden due to hide_parameters=True]" in program.output()
    assert "[parameters: " not in program.output()


@pytest.mark.parametrize("number", [0, 2**63])
async def test_a_number_that_the_column_does_not_hold_is_a_422(
    client: httpx.AsyncClient, number: int
) -> None:
    assert_problem(await create(client, number), 422)
    assert_problem(await client.get(f"/orders/{number}"), 422)


# Errors and the log.


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
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert (await client.options("/orders", headers=asked)).status_code == granted


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
        return [line for line in log_lines(program) if line["request_id"] in ids]

    await until(lambda: len(lines()) >= len(REQUESTS))
    # uvicorn's traceback of the 500 is the last that is written.
    await until(lambda: "UndefinedTableError" in program.output())
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


UNCHANGED = """

@api.get("/unchanged/{code}")
async def unchanged(code: int) -> None:
    raise HTTPException(code, headers={"ETag": '"1"'})
"""


async def test_an_answer_that_has_no_body_is_given_none(tmp_path: Path, server: Postgres) -> None:
    (tmp_path / "app.py").write_text(TEMPLATE.read_text("utf-8") + UNCHANGED, "utf-8")
    with running(tmp_path, database_url=server.url(driver="asyncpg")) as program:
        async with connected(program) as client:
            for code in (204, 304):
                answer = await client.get(f"/unchanged/{code}")
                assert (answer.status_code, answer.content) == (code, b"")
                assert answer.headers["ETag"] == '"1"'
        assert "LocalProtocolError" not in program.output()


# Health and the pool.


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
                assert await status(client, "/orders/1") == 404
                proxy.answering.clear()
                assert await status(client, "/orders/1") == 503  # the ping of its connection
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


# The webhook and the stop.


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
