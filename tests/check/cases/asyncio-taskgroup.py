import asyncio
from asyncio import gather


async def over_a_list(order_id, parts):
    values = await asyncio.gather(*[fetch_part(order_id, part) for part in parts])  # finds
    return values


async def over_a_generator(order_id, parts):
    return list(await gather(*(fetch_part(order_id, part) for part in parts)))  # finds


async def two_calls(order_id):
    customer, stock = await asyncio.gather(  # finds
        fetch_customer(order_id),
        fetch_stock(order_id),
    )
    return customer, stock


async def calls_in_a_list(order_id, parts):
    calls = []
    for part in parts:
        calls.append(fetch_part(order_id, part))
    first = await asyncio.gather(*calls)  # finds
    others = [asyncio.create_task(fetch_part(order_id, part)) for part in parts]
    return first + await asyncio.gather(*others)  # finds


async def errors_are_values(order_id, parts):
    await asyncio.gather(fetch_customer(order_id), fetch_stock(order_id), return_exceptions=True)
    calls = [fetch_part(order_id, part) for part in parts]
    return await asyncio.gather(*calls, return_exceptions=True)


async def errors_are_values_by_settings(order_id, **settings):
    await asyncio.gather(fetch_customer(order_id), fetch_stock(order_id), **settings)


async def one_call(order_id):
    await asyncio.gather(fetch_customer(order_id))


async def children_that_raise_nothing(order_id, parts):
    async def part_or_none(part):
        try:
            return await fetch_part(order_id, part)
        except Exception:
            logger.exception("no part")
            return None

    return await asyncio.gather(*(part_or_none(part) for part in parts))


class Service:
    async def part_or_none(self, part):
        try:
            return await self.fetch_part(part)
        except Exception as error:
            return error

    async def read(self, parts):
        return await asyncio.gather(*(self.part_or_none(part) for part in parts))

    async def read_listed(self, parts):
        calls = [self.part_or_none(part) for part in parts]
        return await asyncio.gather(*calls)


async def tasks_that_were_cancelled(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


async def cancelled_on_error(order_id, parts):
    tasks = [asyncio.create_task(fetch_part(order_id, part)) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


async def in_a_group(order_id, parts):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch_part(order_id, part)) for part in parts]
    return [task.result() for task in tasks]


async def as_they_come(platforms):
    tasks = [asyncio.create_task(list_models(each)) for each in platforms]
    found = []
    for task in asyncio.as_completed(tasks):  # finds
        found += await task
    return found


async def of_two_names(key):
    rows = fetch_rows(key)
    total = asyncio.create_task(count_rows(key))
    return await asyncio.gather(rows, total)  # finds


async def as_they_come_with_errors(tasks):
    for task in asyncio.as_completed(tasks):
        try:
            use(await task)
        except OSError:
            logger.exception("one failed")


async def as_they_come_and_cancelled(tasks):
    try:
        for task in asyncio.as_completed(tasks):
            use(await task)
    finally:
        for task in tasks:
            task.cancel()


async def of_two_names_that_keep_errors(key):
    rows = fetch_rows(key)
    total = count_rows(key)
    return await asyncio.gather(rows, total, return_exceptions=True)
