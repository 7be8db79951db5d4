"""A number in a worker's memory is another one in the next worker; one in Redis is the same."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as RedisDown

from tests.proofs.harness import Block, Witness
from tests.services import Database, Program, Redis, serving_process

WORKERS, TRIES = 4, 10
GIVEN = """
from redis.asyncio import Redis

redis = Redis.from_url({url!r})


async def is_right(payment_id: int, code: str) -> bool:
    return False


"""
MORE = """

import asyncio
import os

lock = asyncio.Lock()


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/state")
async def state() -> list[bool]:
    return [getattr(app.state, "closed", False), lock.locked()]


@app.put("/state")
async def change() -> None:
    app.state.closed = True
    await lock.acquire()
"""
PARENT = """
import uvicorn
from fastapi import FastAPI

app = FastAPI()
loaded: list[str] = []


@app.get("/")
async def names() -> list[str]:
    return loaded


if __name__ == "__main__":
    loaded.append("model")
    uvicorn.run("main:app", port=PORT, workers=2)
"""


@contextmanager
def _workers(block: Block, redis_url: str, folder: Path) -> Iterator[Program]:
    """The block as a program with four workers."""
    (folder / "main.py").write_text(GIVEN.format(url=redis_url) + block.code + MORE)
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "{port}", "--workers"]
    command += [str(WORKERS), "--timeout-keep-alive", "60"]  # a slow machine keeps its connections
    with serving_process(command, cwd=folder, path="/pid") as program:
        yield program


@asynccontextmanager
async def _a_connection_to_each(program: Program) -> AsyncIterator[list[httpx.AsyncClient]]:
    """For each worker, a client that keeps its one connection to it."""
    found: dict[int, httpx.AsyncClient] = {}
    one = httpx.Limits(max_connections=1, keepalive_expiry=60)
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        while len(found) < WORKERS:
            client = httpx.AsyncClient(base_url=program.url, limits=one, timeout=30)
            await stack.enter_async_context(client)
            found.setdefault((await client.get("/pid")).json(), client)
        yield list(found.values())


async def _tried(block: Block, redis_url: str, folder: Path) -> Counter[int]:
    """How ten tries on each of four workers at the same time are answered, by status."""

    async def attempts(client: httpx.AsyncClient) -> list[int]:
        body = {"code": "000000"}
        return [
            (await client.post("/payments/7/code", json=body)).status_code for _ in range(TRIES)
        ]

    with _workers(block, redis_url, folder) as program:
        async with _a_connection_to_each(program) as clients:
            answers = await asyncio.gather(*map(attempts, clients))
            # What else is in a worker's memory: told here, so that no further program must start.
            await clients[0].put("/state")
            told = [(await client.get("/state")).json() for client in clients]
            assert told == [[True, True]] + [[False, False]] * (WORKERS - 1)
    return Counter(status for each in answers for status in each)


async def test_incorrect_allows_five_in_each_worker(
    incorrect: Block, redis_server: Redis, tmp_path: Path, witness: Witness
) -> None:
    assert await _tried(incorrect, redis_server.url, tmp_path) == {400: 20, 429: 20}
    witness.observed(incorrect="of 40 tries on 4 workers, 20 passed a limit of 5")


async def test_correct_allows_five_in_all(
    correct: Block, redis_server: Redis, tmp_path: Path, witness: Witness
) -> None:
    async with _emptied(redis_server):
        assert await _tried(correct, redis_server.url, tmp_path) == {400: 5, 429: 35}
    witness.observed(correct="of 40 tries on 4 workers, 5 passed a limit of 5")


@asynccontextmanager
async def _emptied(server: Redis) -> AsyncIterator[Any]:
    async with Client.from_url(server.url) as client:
        await client.flushdb()
        yield client


@asynccontextmanager
async def _payments(
    block: Block, redis: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, list[tuple[int, str]]]]:
    """A client of the block in this process, and the codes that were compared."""
    compared: list[tuple[int, str]] = []

    async def is_right(payment_id: int, code: str) -> bool:
        compared.append((payment_id, code))
        return code == "123456"

    module = block.run(redis=redis, is_right=is_right)
    transport = httpx.ASGITransport(module.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client, compared


async def _try(client: httpx.AsyncClient, payment_id: int, code: str) -> httpx.Response:
    return await client.post(f"/payments/{payment_id}/code", json={"code": code})


async def test_correct_counts_each_payment_apart(correct: Block, redis_server: Redis) -> None:
    async with _emptied(redis_server) as redis, _payments(correct, redis) as (client, compared):
        for _ in range(4):
            assert (await _try(client, 1, "0")).json() == {"detail": "Wrong code"}
        assert (await _try(client, 1, "123456")).status_code == 200
        refused = await _try(client, 1, "123456")
        assert (refused.status_code, refused.json()) == (429, {"detail": "Too many tries"})
        assert (await _try(client, 2, "0")).status_code == 400
        assert compared == [(1, "0")] * 4 + [(1, "123456"), (2, "0")]


async def test_correct_forgets_when_the_first_try_is_600_seconds_old(
    correct: Block, redis_server: Redis
) -> None:
    async with _emptied(redis_server) as redis, _payments(correct, redis) as (client, _):
        await redis.config_resetstat()
        await _try(client, 1, "0")
        assert (await redis.info("commandstats"))["cmdstat_exec"]["calls"] == 1  # a transaction
        [key] = await redis.keys()
        assert 590 < await redis.ttl(key) <= 600
        await redis.expire(key, 100)
        await _try(client, 1, "0")
        assert 90 < await redis.ttl(key) <= 100
        assert int(await redis.get(key)) == 2


async def test_correct_compares_no_code_while_redis_is_down(correct: Block) -> None:
    with Redis() as server:
        url = server.url
    async with Client.from_url(url) as redis, _payments(correct, redis) as (client, compared):
        with pytest.raises(RedisDown):
            await _try(client, 1, "123456")
        assert compared == []


async def test_a_restart_of_redis_begins_to_count_anew(correct: Block) -> None:
    with Redis() as server:
        async with Client.from_url(server.url) as redis, _payments(correct, redis) as (client, _):
            statuses = [(await _try(client, 1, "0")).status_code for _ in range(6)]
            assert statuses == [400] * 5 + [429]
            server.stop()
            server.start()
            await redis.connection_pool.disconnect()
            assert (await _try(client, 1, "0")).status_code == 400


async def test_a_get_and_an_incr_let_all_tries_at_once_through(redis_server: Redis) -> None:
    all_in = asyncio.Barrier(20)

    async def confirm(redis: Any) -> bool:
        if int(await redis.get("tries:7") or 0) >= 5:
            return False
        await all_in.wait()
        await redis.incr("tries:7")
        return True

    async with asyncio.timeout(10), _emptied(redis_server) as redis:
        assert await asyncio.gather(*(confirm(redis) for _ in range(20))) == [True] * 20


async def test_postgresql_counts_in_one_statement(database: Database) -> None:
    await database.execute("CREATE TABLE tries (payment_id int PRIMARY KEY, number int NOT NULL)")
    count = (
        "INSERT INTO tries VALUES (7, 1) "
        "ON CONFLICT (payment_id) DO UPDATE SET number = tries.number + 1 RETURNING number"
    )
    numbers = await asyncio.gather(*(database.fetchval(count) for _ in range(40)))
    assert sorted(numbers) == list(range(1, 41))


def test_what_the_parent_process_loads_is_in_no_worker(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        PARENT.replace("port=PORT", "port=int(__import__('sys').argv[1])")
    )
    with serving_process([sys.executable, "main.py", "{port}"], cwd=tmp_path) as program:
        assert httpx.get(program.url, timeout=30).json() == []
