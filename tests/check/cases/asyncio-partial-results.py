import asyncio
from asyncio import gather

import anyio


async def after_the_group(sources):
    tasks = []
    try:
        async with asyncio.TaskGroup() as group:
            for source in sources:
                tasks.append(group.create_task(fetch_price(source)))
    except* httpx.HTTPError as errors:  # finds
        logger.warning("%s", errors.exceptions)
    return [task.result() for task in tasks if task.done() and not task.exception()]


async def nobody_looks(sources):
    await asyncio.gather(*(fetch_price(source) for source in sources), return_exceptions=True)  # finds


async def nobody_looks_at_two(order):
    if order:
        await gather(send(order), book(order), return_exceptions=True)  # finds


async def dropped(sources):
    found = await asyncio.gather(*map(fetch_price, sources), return_exceptions=True)
    return [each for each in found if not isinstance(each, BaseException)]  # finds


async def the_group_fails(sources):
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch_price(source)) for source in sources]
    except* httpx.HTTPError:
        raise
    return [task.result() for task in tasks if task.done()]


async def all_or_nothing(sources):
    failed = False
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch_price(source)) for source in sources]
    except* httpx.HTTPError:
        failed = True
    return None if failed else [task.result() for task in tasks]


async def stopped(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def looked_at(sources):
    found = await asyncio.gather(*map(fetch_price, sources), return_exceptions=True)
    for source, each in zip(sources, found):
        if isinstance(each, Exception):
            logger.warning("no price from %s: %r", source, each)
    return [each for each in found if not isinstance(each, Exception)]


async def looked_at_by_another(sources):
    found = await asyncio.gather(*map(fetch_price, sources), return_exceptions=True)
    log_errors(found)
    return [each for each in found if not isinstance(each, Exception)]


async def errors_apart(sources):
    found = await asyncio.gather(*map(fetch_price, sources), return_exceptions=True)
    errors = [each for each in found if isinstance(each, Exception)]
    return [each for each in found if not isinstance(each, Exception)], errors


async def inside_of_the_child(sources):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(price_or_none(source)) for source in sources]
    return [task.result() for task in tasks]


async def errors_are_raised(order):
    await asyncio.gather(send(order), book(order), return_exceptions=False)


async def ended(clients):
    await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)
