"""A pool of processes is given up when one of them dies, unless somebody starts a new one."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.proofs.harness import Block, Witness

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

WORK = """
import multiprocessing
import os
import signal
import time

def render(number):
    if number < 0:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    if not number:
        raise ValueError("no report 0")
    if number > 100:
        time.sleep(0.5)
    return f"report {number} by {multiprocessing.get_start_method()}"

def write_later(path):
    time.sleep(0.5)
    with open(path, "w") as file:
        file.write("done")
"""
DEADLY = -1


BROKEN = "BrokenProcessPool"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that the processes can import."""
    name = f"work_{tmp_path.name}".replace("-", "_").replace(".", "_")
    (tmp_path / f"{name}.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


class Pools:
    """Counts the pools that a block starts."""

    def __init__(self) -> None:
        self.started: list[ProcessPoolExecutor] = []
        self.processes: list[int] = []

    def __call__(self, processes: int, **options: Any) -> ProcessPoolExecutor:
        self.processes.append(processes)
        self.started.append(ProcessPoolExecutor(processes, **options))
        return self.started[-1]


@asynccontextmanager
async def _reports(block: Block, work: ModuleType) -> AsyncIterator[tuple[Any, Pools]]:
    pools = Pools()
    module = block.run(render=work.render)
    module.ProcessPoolExecutor = pools
    reports = module.Reports(1)
    try:
        async with asyncio.timeout(60):
            yield reports, pools
    finally:
        await reports.aclose()
        for pool in pools.started:
            await asyncio.to_thread(pool.shutdown)
    assert multiprocessing.active_children() == []


async def _ended(*calls: Any) -> list[str]:
    """What each call gave, or the name of what it raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [each if isinstance(each, str) else type(each).__name__ for each in results]


async def test_incorrect_fails_for_every_later_report(
    incorrect: Block, work: ModuleType, witness: Witness
) -> None:
    async with _reports(incorrect, work) as (reports, pools):
        for number in (DEADLY, 1, 2, 3):
            with pytest.raises(BrokenExecutor) as raised:
                await reports.render(number)
            witness.saw(raised.value)
        assert len(pools.started) == 1
    witness.observed(incorrect="a killed process, then 3 reports: 3 BrokenProcessPool")


async def test_correct_fails_each_call_that_its_pool_held(correct: Block, work: ModuleType) -> None:
    async with _reports(correct, work) as (reports, _):
        assert await _ended(*[reports.render(number) for number in (DEADLY, 1, 2)]) == [BROKEN] * 3
        assert await reports.render(1) == "report 1 by spawn"


async def test_correct_renders_later_reports_in_a_new_pool(
    correct: Block, work: ModuleType, witness: Witness
) -> None:
    async with _reports(correct, work) as (reports, pools):
        deadly, *beside = await _ended(*[reports.render(number) for number in (DEADLY, 1, 2)])
        assert deadly == BROKEN
        for number, ended in enumerate(beside, 1):  # evals: begun in the new pool
            assert ended in (BROKEN, f"report {number} by spawn")
        wanted = [f"report {number} by spawn" for number in (1, 2, 3)]
        assert await _ended(*[reports.render(number) for number in (1, 2, 3)]) == wanted
        assert len(pools.started) == 2
        assert pools.processes == [1, 1]
        assert multiprocessing.active_children()
    witness.observed(correct="a killed process with 3 calls: 1 new pool, then 3 reports of 3")


async def test_correct_keeps_its_pool_after_an_error_and_after_a_timeout(
    correct: Block, work: ModuleType
) -> None:
    async with _reports(correct, work) as (reports, pools):
        assert await _ended(reports.render(0), reports.render(1)) == [
            "ValueError",
            "report 1 by spawn",
        ]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reports.render(101)
        assert await reports.render(1) == "report 1 by spawn"
        assert len(pools.started) == 1


async def test_correct_ends_its_processes_and_drops_what_waits(
    correct: Block, work: ModuleType
) -> None:
    module = correct.run(render=work.render)
    reports = module.Reports(1)
    assert await reports.render(1) == "report 1 by spawn"
    calls = [asyncio.create_task(reports.render(number)) for number in range(101, 109)]
    await asyncio.sleep(0)
    await reports.aclose()
    await asyncio.wait(calls)
    assert any(call.cancelled() for call in calls)
    assert multiprocessing.active_children() == []


async def test_a_call_that_runs_goes_on_after_its_timeout(work: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "done"
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    try:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(pool, work.render, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await loop.run_in_executor(pool, work.write_later, str(path))
        assert not path.exists()
    finally:
        await asyncio.to_thread(pool.shutdown)
    assert path.read_text() == "done"


async def test_a_function_inside_a_function_is_not_pickled(witness: Witness) -> None:
    def inside() -> None: ...

    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    try:
        with pytest.raises(Exception, match="local object") as raised:
            await asyncio.get_running_loop().run_in_executor(pool, inside)
        witness.saw(raised.value)
    finally:
        await asyncio.to_thread(pool.shutdown)
