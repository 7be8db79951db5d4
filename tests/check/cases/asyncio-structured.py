import asyncio
from asyncio import BoundedSemaphore, ensure_future

import anyio

limit = BoundedSemaphore(10)


async def ship_limited(order_id):
    async with limit:
        await ship(order_id)


async def in_a_list(order_ids):
    tasks = []
    async for order_id in order_ids:
        if order_id:
            tasks.append(asyncio.create_task(ship_limited(order_id)))  # finds
    await asyncio.gather(*tasks)


async def in_a_comprehension(order_ids):
    tasks = [ensure_future(ship_limited(each)) async for each in order_ids]  # finds
    await asyncio.wait(tasks)


async def in_a_group_of_anyio(order_ids):
    async with anyio.create_task_group() as group:
        async for order_id in order_ids:
            group.start_soon(ship_limited, order_id)  # finds


async def released_at_once(order_ids):
    async with asyncio.TaskGroup() as group:
        async for order_id in order_ids:
            async with limit:
                group.create_task(ship(order_id))  # finds


async def taken_before_the_task(order_ids):
    async with asyncio.TaskGroup() as group:
        async for order_id in order_ids:
            await limit.acquire()
            group.create_task(ship(order_id)).add_done_callback(lambda _: limit.release())


async def as_many_as_fit(order_ids):
    tasks = set()
    async for order_id in order_ids:
        tasks.add(asyncio.create_task(ship(order_id)))
        if len(tasks) >= 10:
            _, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def workers(order_ids):
    queue = asyncio.Queue(maxsize=10)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(work(queue))
        async for order_id in order_ids:
            await queue.put(order_id)


async def a_list(order_ids):
    async with asyncio.TaskGroup() as group:
        for order_id in order_ids:
            group.create_task(ship_limited(order_id))


async def one_task(order_ids):
    async for order_id in order_ids:
        if order_id:
            first = asyncio.create_task(ship(order_id))
            break
    return await first
