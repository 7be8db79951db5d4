"""A semaphore bounds how many tasks work; workers over a bounded queue also how many exist."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.proofs.harness import Block, RuleFile, Witness

ORDERS = 10_000


@dataclass
class Shipping:
    """Counts what is read from the source, what is worked on at once and how many tasks exist."""

    read: int = 0
    read_before_first: int = 0
    tasks: int = 0
    active: int = 0
    peak: int = 0
    shipped: int = 0

    async def orders(self, count: int = ORDERS) -> AsyncIterator[int]:
        for order_id in range(count):
            await asyncio.sleep(0)
            self.read += 1
            yield order_id

    async def ship(self, _: int) -> None:
        """Work that is slower than the source: the first ten last until nobody reads any more."""
        self.active += 1
        self.peak = max(self.peak, self.active)
        seen = -1
        while not self.shipped and seen != self.read:
            seen = self.read
            for _turn in range(10):
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not self.shipped:
            self.read_before_first = self.read
            self.tasks = len(asyncio.all_tasks())
        self.shipped += 1
        self.active -= 1


async def _ship_all(block: Block) -> tuple[Shipping, int]:
    """One run over all orders, and the memory that it took at its peak, in bytes."""
    shipping = Shipping()
    before = len(asyncio.all_tasks())
    module = block.run(ship=shipping.ship)
    gc.collect()
    tracemalloc.start()
    try:
        async with asyncio.timeout(60):
            await module.ship_all(shipping.orders())
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    shipping.tasks -= before
    return shipping, memory


async def test_incorrect_has_a_task_for_every_order(incorrect: Block, witness: Witness) -> None:
    shipping, memory = await _ship_all(incorrect)
    assert (shipping.shipped, shipping.peak) == (ORDERS, 10)
    assert (shipping.read_before_first, shipping.tasks) == (ORDERS, ORDERS)
    assert memory > 5_000_000
    witness.observed(incorrect="10,000 orders, 10 at once: 10,000 tasks, over 5 MB")


async def test_correct_reads_no_further_ahead_than_it_works(correct: Block) -> None:
    """As any right answer does, however its queue is bounded."""
    shipping, memory = await _ship_all(correct)
    assert (shipping.shipped, shipping.peak) == (ORDERS, 10)
    assert shipping.read_before_first < 500
    assert shipping.tasks < 50
    assert memory < 500_000


async def test_correct_has_ten_tasks(correct: Block, witness: Witness) -> None:
    shipping, memory = await _ship_all(correct)
    assert (shipping.shipped, shipping.peak) == (ORDERS, 10)
    assert (shipping.read_before_first, shipping.tasks) == (21, 10)
    assert memory < 50_000  # a hundredth of what the other takes at least

    twice, limited = Shipping(), Shipping()
    limit = asyncio.Semaphore(10)

    async def ship_within_limit(order_id: int) -> None:
        async with limit:
            await limited.ship(order_id)

    async with asyncio.timeout(10):
        for each, ship in ((twice, twice.ship), (limited, ship_within_limit)):
            ship_all = correct.run(ship=ship).ship_all
            await asyncio.gather(ship_all(each.orders(100)), ship_all(each.orders(100)))
    assert (twice.shipped, limited.shipped) == (200, 200)
    assert (twice.peak, limited.peak) == (20, 10)

    async def fail(_: int) -> None:
        raise ConnectionError

    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(correct.run(ship=fail).ship_all(Shipping().orders()), 10)
    witness.observed(correct="10,000 orders, 10 at once: 10 tasks, under 0.05 MB")


async def test_workers_can_share_an_iterator() -> None:
    shipped: list[int] = []
    shared = iter(range(100))

    async def work() -> None:
        for order_id in shared:
            await asyncio.sleep(0)
            shipped.append(order_id)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(work())
    assert sorted(shipped) == list(range(100))


async def test_workers_cannot_share_an_async_generator(witness: Witness) -> None:
    source = Shipping().orders()

    async def work() -> None:
        async for _ in source:
            await asyncio.sleep(0)

    async def run() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(work())
            group.create_task(work())

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    await source.aclose()  # type: ignore[attr-defined]
    assert isinstance(caught.value.exceptions[0], RuntimeError)
    witness.saw(caught.value)


async def test_queue_join_waits_for_ever_once_a_worker_has_failed() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:  # as in the documentation of asyncio.Queue
        while True:
            order_id = await queue.get()
            if order_id == 3:
                raise ConnectionError
            queue.task_done()

    for order_id in range(10):
        queue.put_nowait(order_id)
    workers = [asyncio.create_task(work()) for _ in range(3)]
    async with asyncio.timeout(10):
        while not queue.empty():
            await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.join(), 0.2)
    for worker in workers:
        worker.cancel()
    ended = await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == [
        "CancelledError",
        "CancelledError",
        "ConnectionError",
    ]


async def test_since_3_13_shutdown_ends_the_workers_once_the_queue_is_empty() -> None:
    assert hasattr(asyncio.Queue, "shutdown") is (sys.version_info >= (3, 13))
    if sys.version_info < (3, 13):
        return
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=10)
    shipped: list[int] = []

    async def work() -> None:
        try:
            while True:
                shipped.append(await queue.get())
        except asyncio.QueueShutDown:
            return

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(work())
        for number in range(100):
            await queue.put(number)
        queue.shutdown()
    assert sorted(shipped) == list(range(100))


async def test_a_stop_loses_what_was_read_and_not_shipped() -> None:
    block = RuleFile.load("asyncio-structured").block(correct=True)
    shipping, never = Shipping(), asyncio.Event()

    async def ship(_: int) -> None:
        await never.wait()
        shipping.shipped += 1

    task = asyncio.create_task(block.run(ship=ship).ship_all(shipping.orders()))
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert (shipping.read, shipping.shipped) == (21, 0)


async def test_one_order_that_fails_ends_the_job() -> None:
    block = RuleFile.load("asyncio-structured").block(correct=True)
    shipped: list[int] = []

    async def ship(order_id: int) -> None:
        await asyncio.sleep(0)
        if order_id == 30:
            raise ConnectionError
        shipped.append(order_id)

    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(block.run(ship=ship).ship_all(Shipping().orders()), 10)
    assert len(shipped) < 100
