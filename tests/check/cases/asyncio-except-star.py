import asyncio
from asyncio import TaskGroup

import anyio
from fastapi import HTTPException


async def by_a_clause(order_id):
    try:
        async with TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
            stock = group.create_task(fetch_stock(order_id))
        return stock.result()
    except NotFound as error:  # finds
        logger.info("none: %s", error)


async def beside_another_resource(order_id):
    try:
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
            group.create_task(fetch(client, order_id))
    except (httpx.HTTPError, ValueError):  # finds
        logger.exception("no order")


async def below_another_resource(order_id):
    try:
        async with asyncio.timeout(5):
            async with anyio.create_task_group() as group:
                group.start_soon(fetch, order_id)
    except ValueError:  # finds
        logger.exception("no order")
    except TimeoutError:
        logger.exception("too late")


async def raised_inside(order_id):
    async with asyncio.TaskGroup() as group:
        customer = group.create_task(fetch_customer(order_id))
        if not await known(order_id):
            raise HTTPException(404)  # finds
    return customer.result()


async def two_that_raise(order_id):
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
    except* NotFound:  # finds
        raise HTTPException(404)
    except* Unavailable:
        raise HTTPException(503)


async def one_status(order_id):
    status = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
    except* NotFound:
        status = 404
    except* Unavailable as errors:
        status = 503
        logger.warning("unavailable: %s", errors.exceptions)
    if status is not None:
        raise HTTPException(status)


async def as_a_whole(order_id):
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
    except ExceptionGroup as errors:
        logger.warning("%s", errors.exceptions)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
    except Exception:
        logger.exception("failed")
    except asyncio.CancelledError:
        logger.info("stopped")
        raise


async def of_another_call(order_id):
    try:
        order = await fetch_order(order_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order.customer))
    except NotFound:
        return None


async def inside_of_the_child(order_id):
    async with asyncio.TaskGroup() as group:
        try:
            await fetch_order(order_id)
        except NotFound:
            logger.info("none")
        group.create_task(fetch_customer(order_id))


async def the_time_of_the_block(order_id):
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(fetch_customer(order_id))
    except TimeoutError:
        return None


async def after_the_group(order_id):
    async with asyncio.TaskGroup() as group:
        customer = group.create_task(fetch_customer(order_id))
    if customer.result() is None:
        raise HTTPException(404)
