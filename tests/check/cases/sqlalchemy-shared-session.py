import asyncio
from asyncio import gather
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

SessionFactory = async_sessionmaker(engine, expire_on_commit=False)


async def two_statements():
    async with SessionFactory() as session:
        return await asyncio.gather(session.scalars(orders), session.scalars(lines))  # finds


async def handed_to_two(db: AsyncSession = Depends(get_session)):
    customer, stock = await gather(  # finds
        load_customer(db, 1),
        load_stock(7, session=db),
    )
    return customer, stock


async def handed_to_each(ids, db: Annotated[AsyncSession, Depends(get_session)]):
    return await asyncio.gather(*[load(db, each) for each in ids])  # finds


async def executed_at_once(db: AsyncSession):
    return await asyncio.gather(db.execute(orders), db.execute(lines))  # finds


async def handed_from_a_block(ids):
    async with SessionFactory() as session, lock:
        return await asyncio.gather(*(load(session, each) for each in ids))  # finds


async def in_a_group(ids, db: AsyncSession):
    async with asyncio.TaskGroup() as group:
        for each in ids:
            group.create_task(load(db, each))  # finds
    async with asyncio.TaskGroup() as group:
        first = group.create_task(load(db, 1))  # finds
        second = group.create_task(load(db, 2))
    tasks = [asyncio.create_task(load(db, each)) for each in ids]  # finds
    return await asyncio.wait(tasks), first, second


async def by_a_function_inside(ids, session):
    async def one(order_id):
        found = await session.scalars(orders.where(order_id))
        return found.one()

    return await asyncio.gather(*(one(each) for each in ids))  # finds


async def in_turn(db: AsyncSession, ids):
    customer = await load_customer(db, 1)
    stock = await load_stock(db, 7)
    names, _ = await asyncio.gather(fetch(1), fetch(2))
    for each in ids:
        await asyncio.create_task(load(db, each))
    return customer, stock, names


async def one_beside_other_work(db: AsyncSession):
    return await asyncio.gather(load_customer(db, 1), fetch(2))


async def each_its_own(ids):
    async def one(order_id):
        async with SessionFactory() as session:
            return await session.scalar(orders.where(order_id))

    return await asyncio.gather(*(one(each) for each in ids))


async def each_its_own_in_a_function(ids, factory: async_sessionmaker[AsyncSession]):
    return await asyncio.gather(*(load(factory, each) for each in ids))


async def of_a_pool(pool, client):
    await asyncio.gather(pool.execute("SELECT 1"), pool.execute("SELECT 2"))
    await asyncio.gather(client.get("/a"), client.get("/b"))


async def one_task(db: AsyncSession):
    async with asyncio.TaskGroup() as group:
        found = group.create_task(load(db, 1))
        other = group.create_task(fetch(2))
    return found, other


async def one_after_another(ids, session):
    lock = asyncio.Lock()

    async def one(order_id):
        async with lock:
            return await session.scalar(orders.where(order_id))

    return await asyncio.gather(*(one(each) for each in ids))
