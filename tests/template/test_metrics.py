"""Metrics of several workers are one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.services import Database, Postgres, Program
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


def workers(folder: Path) -> set[int]:
    """Give the process ids of which there are gauges."""
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
        await assert_summed(program, database, tmp_path)


async def assert_summed(program: Program, database: Database, folder: Path) -> None:
    async with connected(program) as client, connected(program) as scraper:
        # Each time whichever worker takes the new connection is asked.
        scraper.headers["Connection"] = "close"

        async def assert_each_shows(checked_out: int) -> None:
            for _ in range(20):
                values = await metrics(scraper)
                assert values["db_pool_limit"] == 2 * POOL_SIZE
                assert values["db_pool_checked_out"] == checked_out

        await until(lambda: program.output().count("Application startup complete.") == 2)
        first = workers(folder)
        async with asyncio.TaskGroup() as group, locked(database):
            group.create_task(create(client))
            await until(lambda: waiting(database, 1))
            await assert_each_shows(checked_out=1)
        await assert_each_shows(checked_out=0)
        assert (await metrics(scraper))["db_pool_wait_seconds_count"] > 0

        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: program.output().count("Application startup complete.") == 3)
        assert killed not in workers(folder)
        await assert_each_shows(checked_out=0)
