"""Every program of examples/ is run as a process of its own, and does what its sentence says."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import insert, make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from tests.blocks import python_blocks
from tests.proofs.harness import ROOT
from tests.services import Database, free_port, proxied, serving, serving_process

EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.md"))}
NAMES = {
    "asyncio-examples",
    "connection-pooling-examples",
    "fastapi-lifespan",
    "jobs-examples",
    "serving-examples",
    "sqlalchemy-async-examples",
}
ONE = {"jobs-examples", "serving-examples"}  # a whole service
LIMIT = 60.0  # seconds for whatever must end
TESTED: set[tuple[str, int]] = set()


def shows(name: str, number: int) -> pytest.MarkDecorator:
    """Give the test the path of a file that holds a block of an example, letter for letter."""
    TESTED.add((name, number))
    return pytest.mark.parametrize("program", [(name, number)], indirect=True)


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, number = request.param
    block, _ = list(python_blocks(EXAMPLES[name]))[number]
    path = tmp_path / "program.py"
    path.write_text(block.code, "utf-8")
    return path


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    output: list[str]
    errors: str


def environment(database: Database) -> Mapping[str, str]:
    # Unbuffered, so that a line is there when it is printed.
    return {**os.environ, "DATABASE_URL": database.url(), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def started(program: Path, database: Database, *arguments: str | Path) -> AsyncIterator[Any]:
    """Run it while the body runs; what is left of it is killed."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-W", "always::ResourceWarning", program, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=pipe, stderr=pipe, env=environment(database), cwd=program.parent
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ending(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(LIMIT):
        output, errors = await process.communicate()
    assert process.returncode is not None
    ended = Ended(process.returncode, output.decode().splitlines(), errors.decode())
    assert "ResourceWarning" not in ended.errors
    return ended


async def run(program: Path, database: Database, *arguments: str | Path) -> Ended:
    async with started(program, database, *arguments) as process:
        ended = await ending(process)
    await nobody_connected(database)
    return ended


async def nobody_connected(database: Database) -> None:
    """Wait for the server to notice that the program is gone."""

    def wait() -> None:
        deadline = time.monotonic() + LIMIT
        while left := database.connections():
            assert time.monotonic() < deadline, f"{left} connections are left"
            time.sleep(0.05)

    await asyncio.to_thread(wait)


def test_every_block_has_a_test() -> None:
    importlib.import_module("tests.test_serving_examples")
    assert set(EXAMPLES) == NAMES
    blocks = {name: len(list(python_blocks(path))) for name, path in EXAMPLES.items()}
    assert {(name, number) for name in blocks for number in range(blocks[name])} == TESTED
    assert all(count == 1 if name in ONE else 2 <= count <= 3 for name, count in blocks.items())


def test_a_sentence_with_rules_stands_before_each_block() -> None:
    for path in EXAMPLES.values():
        before = [part.rsplit("\n\n", 2)[-2] for part in path.read_text("utf-8").split("```python")]
        for paragraph in before[:-1]:
            assert re.search(r"program .*\. Rules: (`[a-z-]+`(, |\.$))+$", paragraph)


def test_each_block_is_a_program() -> None:
    end = '\n\n\nif __name__ == "__main__":\n    '
    for path in EXAMPLES.values():
        for block, _ in python_blocks(path):
            # uvicorn makes the loops of its workers itself.
            call = "main()" if path.stem == "serving-examples" else "asyncio.run(main())"
            assert block.code.endswith(f"{end}{call}\n")
            assert not block.given


@shows("asyncio-examples", 0)
async def test_prices_that_came_are_kept(program: Path, database: Database) -> None:
    ended = await run(program, database)
    assert (ended.status, ended.errors) == (0, "")
    missing, (best, failed) = ended.output[:2], ended.output[2:]
    assert missing == ["no price from down: ConnectionError", "no price from slow: TimeoutError"]
    assert best == "best price: 17.5"
    assert failed.startswith("no best price: (ValueError(")


async def works_on_job_3(process: asyncio.subprocess.Process) -> None:
    """Wait until it has done all jobs but the endless one."""
    assert process.stdout is not None
    assert process.stderr is not None
    seen: set[str] = set()
    async with asyncio.timeout(LIMIT):
        while not seen >= {"job 1 is done", "job 2 is failed", "job 4 is done"}:
            line = await process.stdout.readline()
            assert line, (await process.stderr.read()).decode()
            seen.add(line.decode().strip())


@shows("asyncio-examples", 1)
async def test_the_worker_puts_back_what_it_cannot_finish(
    program: Path, database: Database
) -> None:
    async with started(program, database) as process:
        await works_on_job_3(process)
        leased = "SELECT id FROM jobs WHERE leased_until > now() + interval '1 hour'"
        assert [row["id"] for row in await database.fetch(leased)] == [3]
        process.send_signal(signal.SIGTERM)
        ended = await ending(process)
    assert ended.status == 0
    assert ended.output == ["job 3 is open", "not every job ended in time", "stopped"]
    assert ended.errors.count("ERROR:") == ended.errors.count("ERROR:root:job 2\n") == 1
    rows = await database.fetch("SELECT id, state FROM jobs WHERE leased_until IS NULL ORDER BY id")
    states = [(row["id"], row["state"]) for row in rows]
    assert states == [(1, "done"), (2, "failed"), (3, "open"), (4, "done")]
    await nobody_connected(database)


SLOW_END = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(5); RETURN new; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON jobs FOR EACH ROW WHEN (new.state = 'done')
    EXECUTE FUNCTION slow();
INSERT INTO jobs VALUES (5, 0)
"""


async def stopped_while_it_gives_back(program: Path, database: Database, slowly: str) -> Ended:
    """Send SIGTERM while the UPDATE that ends job 5 runs, longer than the grace of two seconds."""
    active = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active' AND query ~ $1"
    )
    async with started(program, database) as process:
        await works_on_job_3(process)
        await database.execute(slowly)
        ending_now: list[Any] = []
        async with asyncio.timeout(LIMIT):
            while not ending_now:
                await asyncio.sleep(0.05)
                ending_now = await database.fetch(active, "^UPDATE jobs SET state")
        process.send_signal(signal.SIGTERM)
        return await ending(process)


@shows("asyncio-examples", 1)
async def test_a_job_is_given_back_although_the_stop_comes_meanwhile(
    program: Path, database: Database
) -> None:
    ended = await stopped_while_it_gives_back(program, database, SLOW_END)
    assert ended.status == 0
    last = ["job 3 is open", "job 5 is done", "not every job ended in time", "stopped"]
    assert ended.output == last
    state = await database.fetch("SELECT state, leased_until FROM jobs WHERE id = 5")
    assert [tuple(row) for row in state] == [("done", None)]
    await nobody_connected(database)


@shows("asyncio-examples", 1)
async def test_a_job_that_another_worker_has_claimed_stays_with_it(
    program: Path, database: Database
) -> None:
    async with started(program, database) as process:
        await works_on_job_3(process)
        await database.execute("UPDATE jobs SET owner = 'another' WHERE id = 3")
        process.send_signal(signal.SIGTERM)
        ended = await ending(process)
    assert ended.output == ["not every job ended in time", "stopped"]
    rows = await database.fetch("SELECT state, owner FROM jobs WHERE leased_until > now()")
    assert [tuple(row) for row in rows] == [("open", "another")]
    await nobody_connected(database)


async def test_a_claim_that_is_cancelled_while_it_is_answered_is_given_back(
    database: Database,
) -> None:
    block, _ = list(python_blocks(EXAMPLES["asyncio-examples"]))[1]
    module = block.run()
    async with proxied(database.server.port) as proxy:
        url = make_url(database.url()).set(port=proxy.port)
        engine = create_async_engine(url, pool_size=2)
        for statement in module.SETUP.split(";"):
            await database.execute(statement)
        async with engine.connect(), engine.connect():
            pass  # both connections are there
        proxy.silent_after = b"COMMIT;"
        task = asyncio.create_task(module.one_job(engine))
        leased = "SELECT count(*) FROM jobs WHERE leased_until IS NOT NULL"
        async with asyncio.timeout(LIMIT):
            rows = 0
            while not rows:
                await asyncio.sleep(0.01)
                rows = await database.fetchval(leased)
            task.cancel()
            proxy.answering.set()
            await asyncio.wait([task])
        assert task.cancelled()
        assert await database.fetchval(leased) == 0
        await engine.dispose()


FAILING_END = SLOW_END.replace("RETURN new", "RAISE EXCEPTION 'the disk is full'")


@shows("asyncio-examples", 1)
async def test_a_job_that_cannot_be_given_back_does_not_hide_the_stop(
    program: Path, database: Database
) -> None:
    ended = await stopped_while_it_gives_back(program, database, FAILING_END)
    assert ended.status == 0
    assert ended.output == ["job 3 is open", "not every job ended in time", "stopped"]
    assert "Task exception was never retrieved" in ended.errors
    assert "the disk is full" in ended.errors
    await nobody_connected(database)


def write_orders(path: Path, last: str = "") -> Path:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    times = ((first + timedelta(minutes=number)).isoformat() for number in range(2500))
    lines = [f"{number},{when}\n" for number, when in enumerate(times)]
    path.write_text("".join(lines) + last, "utf-8")
    return path


@shows("sqlalchemy-async-examples", 0)
async def test_orders_are_imported_in_chunks_or_not_at_all(
    program: Path, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    count = "SELECT count(*) FROM orders"
    faults = {
        "2500,yesterday\n": "ValueError: Invalid isoformat string: 'yesterday'",
        "2500,2026-01-01T12:00:00\n": "ValueError: no time zone: 2026-01-01T12:00:00",
        "0,2026-01-01T12:00:00+00:00\n": "IntegrityError",
    }
    for last, error in faults.items():
        ended = await run(program, database, write_orders(path, last))
        assert ended.status == 1
        assert ended.output[:2] == ["1000 rows", "2000 rows"]
        assert "committed" not in ended.output
        assert error in ended.errors
        assert await database.fetchval(count) == 0
    ended = await run(program, database, write_orders(path))
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output == ["1000 rows", "2000 rows", "2500 rows", "committed"]
    assert await database.fetchval(count) == 2500
    last_one = await database.fetchval("SELECT ordered_at FROM orders WHERE number = 2499")
    assert last_one == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=2499)


@shows("sqlalchemy-async-examples", 1)
async def test_a_sale_is_whole_or_leaves_nothing(program: Path, database: Database) -> None:
    ended = await run(program, database)
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output == [
        "['sold 2', 'sold 2', 'sold out: pot']",
        "[['pot', 'cup'], ['pot', 'cup']]",
    ]
    assert await database.fetchval("SELECT count(*) FROM orders") == 2
    assert await database.fetchval("SELECT count(*) FROM lines") == 4
    stock = await database.fetch("SELECT sku, stock FROM products")
    assert {row["sku"]: row["stock"] for row in stock} == {"cup": 7, "pot": 0}


SLOW_UPDATE = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.5); RETURN new; END $$;
CREATE TRIGGER slow AFTER UPDATE ON products FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.mark.parametrize("in_order", [True, False])
async def test_sales_of_the_same_products_deadlock_unless_they_are_sorted(
    database: Database, in_order: bool
) -> None:
    _, (block, _) = python_blocks(EXAMPLES["sqlalchemy-async-examples"])
    assert "in sorted(skus):" in block.code
    code = block.code if in_order else block.code.replace("sorted(skus)", "skus")
    module = replace(block, code=code).run()
    engine = create_async_engine(database.url())
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(module.Base.metadata.create_all)
            await connection.execute(insert(module.Product), module.STOCK)
        with pytest.raises(IntegrityError):
            await module.sell(sessions, ["mug"])
        await database.execute(SLOW_UPDATE)
        async with asyncio.timeout(LIMIT):
            ended = await asyncio.gather(
                module.sell(sessions, ["cup", "pot"]),
                module.sell(sessions, ["pot", "cup"]),
                return_exceptions=True,
            )
    finally:
        await engine.dispose()
    failed = [each for each in ended if isinstance(each, BaseException)]
    if in_order:
        assert list(ended) == ["sold 2", "sold 2"]
    else:
        assert len(failed) == 1
        assert "deadlock detected" in str(failed[0])


@shows("connection-pooling-examples", 0)
async def test_the_metrics_show_the_queue_and_its_end(program: Path, database: Database) -> None:
    ended = await run(program, database)
    assert (ended.status, ended.errors) == (0, "")
    waiting = [f"refused: 3 in use, {left} waiting" for left in reversed(range(9))]
    assert ended.output[:9] == waiting
    assert ended.output[9:11] == ["idle: 0 in use, 0 waiting", "answered: 3 of 12"]
    assert "db_pool_wait_seconds_count 12.0" in ended.output
    assert "db_pool_checked_out 0.0" in ended.output


@shows("connection-pooling-examples", 1)
async def test_charges_share_one_client_hold_no_connection_and_are_settled_later(
    program: Path, database: Database
) -> None:
    ended = await run(program, database)
    assert (ended.status, ended.errors) == (0, "")
    assert sorted(ended.output[:2]) == ["order 3: HTTPStatusError", "order 5: RemoteProtocolError"]
    match = re.fullmatch(r"6 charged, connections: (\d)", ended.output[2])
    assert match
    # More at once than the database pool has connections: no charge held one meanwhile.
    assert 2 < int(match[1]) <= 5
    assert ended.output[3:] == [
        "order 3: HTTPStatusError",
        "again: 3 False",
        "again: 5 True",
        "7 charges at the provider",
    ]
    rows = await database.fetch("SELECT order_id FROM payments WHERE receipt = 'paid' ORDER BY 1")
    assert [row["order_id"] for row in rows] == [1, 2, 4, 5, 6, 7, 8]
    open_ones = await database.fetch("SELECT order_id FROM payments WHERE receipt IS NULL")
    assert [row["order_id"] for row in open_ones] == [3]


stock = FastAPI()


@stock.get("/")
async def answers() -> str:
    return "up"


@stock.get("/{sku}")
async def in_stock(sku: int) -> int:
    if sku in {8, 9}:
        raise HTTPException(404 if sku == 9 else 500)
    return sku


@shows("fastapi-lifespan", 0)
async def test_the_service_commits_first_and_closes_in_reverse_order(
    program: Path, database: Database
) -> None:
    command: list[str | Path] = ["/usr/bin/env", "PORT={port}", sys.executable, program]
    async with serving(stock) as other:
        settings = {"DATABASE_URL": database.url(), "STOCK_URL": other.url}
        stack = ExitStack()
        try:
            context = serving_process(command, env=settings, cwd=program.parent, timeout=LIMIT)
            service = await asyncio.to_thread(stack.enter_context, context)
            async with httpx.AsyncClient(base_url=service.url, timeout=LIMIT) as client:
                sold = await client.post("/orders/7")
                skus = [row["sku"] for row in await database.fetch("SELECT sku FROM orders")]
                missing = await client.post("/orders/9")
                others = [await client.post(f"/orders/{sku}") for sku in (0, 2**31, 8)]
            status = await asyncio.to_thread(service.terminate, LIMIT)
            lines = service.output().splitlines()
        finally:
            await asyncio.to_thread(stack.close)
    assert (sold.status_code, sold.json(), skus) == (201, 1, [7])
    assert (missing.status_code, missing.json()) == (409, {"detail": "sold out"})
    assert [each.status_code for each in others] == [422, 422, 500]
    assert await database.fetchval("SELECT count(*) FROM orders") == 1
    # uvicorn raises the signal again once it has shut down.
    assert status == -signal.SIGTERM
    assert [line for line in lines if line.startswith("closed")] == ["closed http", "closed engine"]
    await nobody_connected(database)


@shows("fastapi-lifespan", 0)
async def test_the_service_closes_what_is_open_where_its_start_fails(
    program: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.setenv("STOCK_URL", f"http://127.0.0.1:{free_port()}")
    ended = await run(program, database)
    assert (ended.status, ended.output) == (3, ["closed http", "closed engine"])
    assert "httpx.ConnectError" in ended.errors
    monkeypatch.setenv("STOCK_URL", "nowhere")
    ended = await run(program, database)
    assert (ended.status, ended.output) == (1, [])
    assert "stock_url\n  Input should be a valid URL" in ended.errors


@shows("fastapi-lifespan", 1)
async def test_the_stop_waits_for_the_receipts(program: Path, database: Database) -> None:
    ended = await run(program, database)
    assert ended.status == 0
    orders = [f"order {number} 202" for number in (1, 2, 3)]
    assert [line for line in ended.output if line.startswith("order")] == orders
    receipts = [line for line in ended.output if line.startswith("receipt")]
    assert receipts == ["receipt 1", "receipt 2"]
    assert ended.output[-1] == "stopped"
    assert ended.errors.startswith("ERROR:root:receipt 3 failed\nTraceback")
    assert ended.errors.endswith("\nConnectionError\n")


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(LIMIT):
        while not await true():  # noqa: ASYNC110  (another process makes it true)
            await asyncio.sleep(0.02)


@dataclass
class Mail:
    """A mail server that fails for some orders, and hangs while `answering` is not set."""

    failing: set[int] = field(default_factory=set)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[int, str]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/receipts")
        async def receipt(request: Request) -> None:
            order = (await request.json())["order"]
            self.asked.append((order, request.headers["Idempotency-Key"]))
            await self.answering.wait()
            if order in self.failing:
                raise HTTPException(503)

        return app

    async def until_asked(self, count: int) -> None:
        await until(lambda: self._asked(count))

    async def _asked(self, count: int) -> bool:
        return len(self.asked) >= count


async def until_jobs(database: Database, what: str) -> None:
    """Wait until the rows of jobs are like this."""
    await until(lambda: database.fetchval(f"SELECT {what} FROM jobs"))


@asynccontextmanager
async def shop_and_mail(
    program: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, Mail]]:
    """The service of the program, and the mail server that a worker finds in the environment."""
    mail = Mail()
    command: list[str | Path] = ["/usr/bin/env", "PORT={port}", sys.executable, program, "serve"]
    async with serving(mail.app()) as other:
        monkeypatch.setenv("MAIL_URL", other.url)
        with ExitStack() as stack:
            settings = {"DATABASE_URL": database.url()}
            context = serving_process(command, env=settings, cwd=program.parent, timeout=LIMIT)
            service = await asyncio.to_thread(stack.enter_context, context)
            try:
                async with httpx.AsyncClient(base_url=service.url, timeout=LIMIT) as client:
                    yield client, mail
            finally:
                mail.answering.set()


@shows("jobs-examples", 0)
async def test_a_receipt_that_failed_is_sent_again_up_to_five_times(
    program: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_and_mail(program, database, monkeypatch) as (client, mail):
        mail.answering.set()
        mail.failing = {2, 3}
        statuses = [(await client.post(f"/orders/{n}")).status_code for n in (1, 2, 3, 1, 0)]
        assert statuses == [201, 201, 201, 409, 422]
        await until_jobs(database, "count(*) = 3")
        await database.execute("UPDATE jobs SET attempts = 4 WHERE order_number = 3")
        async with started(program, database, "work") as process:
            await mail.until_asked(3)
            mail.failing = {3}
            put_off = "max(due) BETWEEN now() + interval '20 s' AND now() + interval '32 s'"
            await until_jobs(database, put_off)
            await database.execute("UPDATE jobs SET due = now() - interval '1 h' WHERE id = 3")
            await until_jobs(database, "count(*) = 1")
            process.terminate()
            ended = await ending(process)
    receipts = [(order, f"receipt-{order}") for order in (1, 2, 3, 2)]
    assert (mail.asked, ended.status, ended.output) == (receipts, 0, ["the worker has ended"])
    assert "job 2 failed, attempt 1, more to come" in ended.errors
    assert "job 3 failed, attempt 5, the last one" in ended.errors
    assert [tuple(row) for row in await database.fetch("SELECT id, attempts FROM jobs")] == [(3, 5)]


@shows("jobs-examples", 0)
async def test_the_receipt_of_a_killed_worker_is_sent_by_another_after_the_lease(
    program: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_and_mail(program, database, monkeypatch) as (client, mail):
        await client.post("/orders/1")
        async with started(program, database, "work") as process:
            await mail.until_asked(1)
            process.kill()
        left = await database.fetchval("SELECT extract(epoch FROM due - now()) FROM jobs")
        assert 240 < left <= 300
        await database.execute("UPDATE jobs SET due = now()")
        async with started(program, database, "work") as process:
            await mail.until_asked(2)
            process.terminate()  # in the middle of the job, which it ends
            await asyncio.sleep(0.2)
            mail.answering.set()
            ended = await ending(process)
        await until_jobs(database, "count(*) = 0")
    assert mail.asked == [(1, "receipt-1")] * 2
    assert (ended.status, ended.output, ended.errors) == (0, ["the worker has ended"], "")
