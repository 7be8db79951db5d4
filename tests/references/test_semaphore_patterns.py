"""references/semaphore-patterns.md: its blocks are run, and do what the sentences around them say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from tests.references.harness import (
    LIMIT,
    Busy,
    run,
    turns,
    until,
)
from tests.services import serving


async def test_a_semaphore_made_in_the_function_bounds_nothing() -> None:
    busy = Busy()

    async def call() -> None:
        async with asyncio.Semaphore(1):
            await busy()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(call())
        await turns()
        busy.go.set()
    assert busy.peak == 10


@asynccontextmanager
async def _crawl(slot: Any) -> AsyncIterator[tuple[Busy, Busy]]:
    """Six calls of a host that is stuck and six of another, which answers at once."""
    stuck, other = Busy(), Busy()
    other.go.set()

    async def call(work: Busy, url: str) -> None:
        async with slot(url):
            await work()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(call(stuck, "https://stuck.example/a"))
        for _ in range(6):
            group.create_task(call(other, "https://other.example/b"))
        await turns(100)
        yield stuck, other
        stuck.go.set()


async def test_a_stuck_host_keeps_its_own_slots_and_no_more() -> None:
    module = run("semaphore-patterns", "HostLimits")
    async with module.limits.slot("https://a.example/"):
        assert module.limits._total._value == 100 - 1
        assert module.limits._hosts["a.example"]._value == 10 - 1
    limits = module.HostLimits(total=4, per_host=2)
    async with _crawl(limits.slot) as (stuck, other):
        assert (stuck.active, other.done) == (2, 6)
    assert (stuck.peak, stuck.done) == (2, 6)


async def test_the_total_bounds_all_hosts_together() -> None:
    module = run("semaphore-patterns", "HostLimits")
    limits, busy = module.HostLimits(total=4, per_host=2), Busy()

    async def call(host: int) -> None:
        async with limits.slot(f"https://{host}.example/"):
            await busy()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(call(number % 10))
        await turns(100)
        busy.go.set()
    assert (busy.peak, busy.done) == (4, 30)
    assert len(limits._hosts) == 10  # it keeps one for each host that there was


async def test_with_the_total_taken_first_a_stuck_host_stops_the_other() -> None:
    limits = run("semaphore-patterns", "HostLimits").HostLimits(total=4, per_host=2)

    @asynccontextmanager
    async def wrong(url: str) -> AsyncIterator[None]:
        async with limits._total, limits._hosts[url]:
            yield

    async with _crawl(wrong) as (stuck, other):
        assert (stuck.active, other.done) == (2, 0)


async def test_the_limit_of_httpx_is_for_all_hosts_together_and_its_wait_is_bounded() -> None:
    busy = Busy()
    app, other = FastAPI(), FastAPI()

    @app.get("/")
    async def hold() -> str:
        return await busy()

    limits, wait = httpx.Limits(max_connections=2), httpx.Timeout(LIMIT, pool=0.2)
    async with (
        serving(app) as stuck,
        serving(other) as free,
        httpx.AsyncClient(limits=limits, timeout=wait) as client,
        asyncio.timeout(LIMIT),
    ):
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(client.get(stuck.url)) for _ in range(2)]
            await until(lambda: busy.active == 2)
            with pytest.raises(httpx.PoolTimeout):
                await client.get(free.url)
            busy.go.set()
        assert [task.result().status_code for task in held] == [200, 200]


@dataclass
class Starts:
    """Remembers when calls start, in seconds."""

    times: list[float] = field(default_factory=list)
    active: int = 0
    peak: int = 0

    async def __call__(self, _: str) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.active += 1
        self.peak = max(self.peak, self.active)
        await asyncio.sleep(0.05)
        self.active -= 1

    def spaced(self, interval: float, since: float) -> bool:
        """Whether no start came before its turn. The first turn is at `since` or later; when the
        first call starts is no measure, for that one may be late."""
        return all(
            start - since >= place * interval - 1e-6 for place, start in enumerate(self.times)
        )


async def test_starts_are_spaced_and_slots_bound_how_many_run() -> None:
    starts = Starts()
    module = run("semaphore-patterns", "Rate", send=starts)
    assert (module.slots._value, module.rate._interval) == (10, 1 / 50)
    since = asyncio.get_running_loop().time()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(module.send_within_limits(str(number)))
    assert len(starts.times) == 20
    assert starts.spaced(1 / 50, since)
    module.slots = asyncio.Semaphore(2)
    starts.peak = 0
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(module.send_within_limits(str(number)))
    assert starts.peak == 2


async def test_with_the_turn_taken_first_calls_start_in_a_burst() -> None:
    module = run("semaphore-patterns", "Rate", send=Starts())
    calls = 10

    async def right(slots: asyncio.Semaphore, rate: Any, starts: Starts) -> None:
        async with slots:
            await rate.turn()
            await starts("")

    async def wrong(slots: asyncio.Semaphore, rate: Any, starts: Starts) -> None:
        await rate.turn()
        async with slots:
            await starts("")

    spaced = []
    for send in (right, wrong):
        slots, rate, starts = asyncio.Semaphore(calls), module.Rate(20), Starts()
        for _ in range(calls):
            await slots.acquire()  # all slots are taken by slow calls
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(send(slots, rate, starts))
            await asyncio.sleep((calls + 1) / 20)  # meanwhile the turns pass
            assert starts.times == []
            since = asyncio.get_running_loop().time()
            for _ in range(calls):
                slots.release()
        spaced.append(starts.spaced(1 / 20, since))
    assert spaced == [True, False]


async def test_what_would_wait_too_long_is_refused_and_its_slots_come_back() -> None:
    busy = Busy()
    module = run("semaphore-patterns", "read_report", render=busy)
    async with (
        serving(module.app) as served,
        httpx.AsyncClient(base_url=served.url, timeout=LIMIT) as client,
        asyncio.timeout(LIMIT),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(client.get(f"/reports/{number}")) for number in range(7)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        refused = [task.result() for task in tasks if task.done()]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert refused[0].headers["Retry-After"] == "1"
        assert (busy.active, busy.peak) == (4, 4)
        await asyncio.sleep(1.2)  # the timeout does not cover the work
        busy.go.set()
        answers = [(await task).status_code for task in tasks]
        assert sorted(answers) == [200] * 4 + [503] * 3
        assert (await client.get("/reports/7")).status_code == 200
        assert module.slots._value == 4


@pytest.mark.parametrize("timeout_first", [True, False])
async def test_a_slot_that_comes_as_the_time_is_up_is_not_lost(*, timeout_first: bool) -> None:
    module = run("semaphore-patterns", "read_report", render=Busy())
    limits: list[asyncio.Timeout] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        limits.append(asyncio.timeout(seconds))
        return limits[-1]

    module.asyncio = SimpleNamespace(timeout=timeout)
    for _ in range(4):
        await module.slots.acquire()

    async def take() -> bool:
        try:
            async with module.slot(LIMIT):
                return True
        except HTTPException:
            return False

    waiter = asyncio.create_task(take())
    await turns()
    if timeout_first:
        limits[0].reschedule(0)
    module.slots.release()
    if not timeout_first:
        limits[0].reschedule(0)
    assert await asyncio.wait_for(waiter, LIMIT) is not timeout_first
    assert module.slots._value == 1


async def test_a_cancelled_wait_for_a_slot_is_no_refusal() -> None:
    module = run("semaphore-patterns", "read_report", render=Busy())
    for _ in range(4):
        await module.slots.acquire()
    waiter = asyncio.create_task(module.read_report(1))
    await turns()
    waiter.cancel()
    await asyncio.wait([waiter], timeout=LIMIT)
    assert waiter.cancelled()


async def test_a_release_inside_try_gives_back_the_slot_of_another() -> None:
    module = run("semaphore-patterns", "read_report", render=Busy())

    async def wrong() -> None:
        try:
            async with asyncio.timeout(0.01):
                await module.slots.acquire()
        finally:
            module.slots.release()

    for _ in range(4):
        await module.slots.acquire()
    with pytest.raises(TimeoutError):
        await wrong()
    assert module.slots._value == 1  # although all four are taken
