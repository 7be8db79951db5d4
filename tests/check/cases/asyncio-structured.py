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


async def all_that_the_client_sends(request):
    return await asyncio.gather(*[ship(order) for order in request.orders])  # finds


async def all_texts(texts, batch_size):
    batches = [texts[at : at + batch_size] for at in range(0, len(texts), batch_size)]
    return await asyncio.gather(*[embed(batch) for batch in batches])  # finds


async def one_after_the_other_made(documents):
    updates = []
    for document in documents:
        updates.append(store(document))
    return await asyncio.gather(*updates)  # finds


async def all_with_a_bound(request):
    semaphore = asyncio.Semaphore(10)

    async def ship_one(order):
        async with semaphore:
            return await ship(order)

    return await asyncio.gather(*[ship_one(order) for order in request.orders])


async def a_few(key):
    return await asyncio.gather(read_stock(key), read_price(key))


async def of_each_kind():
    return await asyncio.gather(*[probe(each) for each in ("database", "cache")])
