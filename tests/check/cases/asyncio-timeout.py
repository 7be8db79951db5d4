import asyncio
import contextlib
from asyncio import timeout, wait_for

import anyio
import httpx


async def in_the_block(currency):
    async with timeout(5):
        try:
            return await rate(currency)
        except asyncio.TimeoutError:  # finds
            return cached(currency)


async def among_others(currency):
    async with lock, asyncio.timeout(5) as deadline:
        logger.info("asked")
        try:
            found = await rate(currency)
        except (ValueError, TimeoutError) as error:  # finds
            logger.info("%s at %s", error, deadline.when())


async def by_anyio(currency):
    with anyio.fail_after(5):
        try:
            return await rate(currency)
        except TimeoutError:  # finds
            return cached(currency)


async def heartbeats(answers):
    generator = answers.__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(generator.__anext__(), timeout=15)  # finds
        except asyncio.TimeoutError:
            yield ": ping"


async def heartbeats_by_anext(answers):
    while True:
        try:
            answer = await wait_for(anext(answers), 15)  # finds
        except TimeoutError:
            await ping()
        except StopAsyncIteration:
            return
        else:
            yield answer


async def progress(job):
    task = asyncio.create_task(job())
    while not task.done():
        try:
            result = await wait_for(task, 1)  # finds
        except TimeoutError:
            logger.info("still at it")
            continue
    return result


async def the_error_of_another(url):
    async with httpx.AsyncClient() as client:
        first = await client.get(url)
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            return await client.get(url)
    except TimeoutError:  # finds
        return first


async def around_the_block(currency):
    try:
        async with asyncio.timeout(5):
            return await rate(currency)
    except TimeoutError:
        return cached(currency)


async def a_timeout_of_its_own(currency):
    async with asyncio.timeout(5):
        try:
            return await wait_for(rate(currency), 1)
        except TimeoutError:
            return cached(currency)


async def of_the_client(url, session):
    async with asyncio.timeout(5):
        try:
            async with session.get(url) as response:
                return await response.text()
        except TimeoutError:
            return None


async def another_error(currency):
    async with asyncio.timeout(5):
        try:
            return await rate(currency)
        except ValueError:
            return cached(currency)


async def a_new_wait_each_time(queue):
    while True:
        try:
            yield await asyncio.wait_for(queue.get(), 15)
        except TimeoutError:
            yield ": ping"


async def shielded(job):
    task = asyncio.create_task(job())
    while not task.done():
        try:
            await asyncio.wait_for(asyncio.shield(task), 1)
        except TimeoutError:
            logger.info("still at it")


async def once(job):
    task = asyncio.create_task(job())
    try:
        await asyncio.wait_for(task, 1)
    except TimeoutError:
        logger.info("too late")


async def ends_after_the_first(answers):
    while True:
        try:
            yield await asyncio.wait_for(answers.__anext__(), 15)
        except TimeoutError:
            return


async def its_own_error(url):
    try:
        async with httpx.AsyncClient() as client:
            return await client.get(url)
    except httpx.TimeoutException:
        return None
    except TimeoutError:
        return None


async def bounded_whole(url):
    try:
        async with asyncio.timeout(5), httpx.AsyncClient() as client:
            return await client.get(url)
    except TimeoutError:
        return None


async def begins_anew(source):
    generator = source()
    while True:
        try:
            yield await asyncio.wait_for(anext(generator), 15)
        except TimeoutError:
            generator = source()
