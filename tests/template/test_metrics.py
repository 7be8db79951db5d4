"""Metrics of several workers are one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.services import Postgres, Program
from tests.template.harness import (
    POOL_SIZE,
    connected,
    create,
    locked,
    metrics,
    running,
    until,
    waiting,
)


async def scraped(program: Program) -> dict[str, float]:
    """Ask whichever worker takes a new connection."""
    async with connected(program) as client:
        return await metrics(client)


def workers(folder: Path) -> set[int]:
    return {int(path.stem.rsplit("_", 1)[1]) for path in folder.glob("gauge_livesum_*.db")}


async def test_every_worker_shows_the_sum_of_all_also_after_one_was_killed(
    folder: Path, tmp_path: Path, server: Postgres
) -> None:
    database = server.create_database()
    with running(
        folder,
        options={"workers": 2},
        metrics_folder=tmp_path,
        database_url=database.url(),
        create_tables="true",
        pool_size=POOL_SIZE,
    ) as program:

        async def both() -> bool:
            return (await scraped(program)).get("db_pool_limit") == 2 * POOL_SIZE

        async def assert_each_shows(checked_out: int) -> None:
            for _ in range(20):
                values = await scraped(program)
                assert values["db_pool_limit"] == 2 * POOL_SIZE
                assert values["db_pool_checked_out"] == checked_out

        await until(both)
        async with connected(program) as client, asyncio.TaskGroup() as group:
            async with locked(database):
                group.create_task(create(client))
                await until(lambda: waiting(database, 1))
                await assert_each_shows(checked_out=1)
        await assert_each_shows(checked_out=0)
        assert (await scraped(program))["db_pool_wait_seconds_count"] > 0

        first = workers(tmp_path)
        assert len(first) == 2
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: len(workers(tmp_path) - {killed}) == 2)
        await until(lambda: killed not in workers(tmp_path))
        await until(both)
        await assert_each_shows(checked_out=0)
