import asyncio
from asyncio import TaskGroup, timeout
from contextlib import aclosing, asynccontextmanager

import anyio


async def rows(query):
    async with timeout(5):
        async for row in run(query):
            yield row  # finds


async def pages(client):
    while True:
        async with lock, asyncio.timeout(5) as deadline:
            page = await client.page()
            yield page  # finds
        if deadline.expired() or not page:
            return


async def answers(questions):
    async with TaskGroup() as group:
        tasks = [group.create_task(ask(question)) for question in questions]
        for task in asyncio.as_completed(tasks):
            if answer := await task:
                yield answer  # finds


async def merged(streams):
    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(forward, stream, send)
        async for each in receive:
            yield each  # finds


async def limited(stream):
    with anyio.move_on_after(5):
        async for each in stream:
            yield each  # finds


async def between(query):
    async with asyncio.timeout(5):
        found = await run(query)
    for row in found:
        yield row


async def with_a_connection(query):
    async with pool.acquire() as connection:
        async for row in connection.cursor(query):
            yield row


@asynccontextmanager
async def service(names):
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(serve(name))
        while True:
            yield group
            break


async def a_dependency():
    async with asyncio.TaskGroup() as group:
        yield group


async def no_generator(query):
    async with asyncio.timeout(5):
        def numbers():
            for number in range(3):
                yield number

        return [await run(query, each) for each in numbers()]


async def bounded_by_the_consumer(query):
    async with asyncio.timeout(5), aclosing(rows(query)) as found:
        return [row async for row in found]
