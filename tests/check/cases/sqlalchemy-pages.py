from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


async def by_number(session: AsyncSession, page: int, size: int) -> list[Order]:
    query = select(Order).order_by(Order.created).offset((page - 1) * size).limit(size)  # finds
    return list(await session.scalars(query))


def with_a_query(session: Session, skip: int = 0, limit: int = 100) -> list[Order]:
    return session.query(Order).offset(skip).limit(limit).all()  # finds


async def step_by_step(session: AsyncSession, params: Page) -> list[Order]:
    query = select(Order)
    query = query.offset(params.offset)  # finds
    query = query.limit(params.size)
    return list(await session.scalars(query))


async def close_all(session: AsyncSession) -> None:
    offset = 0
    while True:
        query = select(Order).where(Order.open).order_by(Order.id).limit(100)
        orders = (await session.scalars(query.offset(offset))).all()  # finds
        if not orders:
            break
        for order in orders:
            order.open = False
        await session.commit()
        offset += 100


async def close_so_many(session: AsyncSession, query: Select[Order], count: int) -> None:
    for start in range(0, count, 500):
        orders = await session.scalars(query.offset(start))  # finds
        for order in orders:
            order.open = False


async def by_key(session: AsyncSession, after: tuple[str, int]) -> list[Order]:
    query = select(Order).order_by(Order.created, Order.id).limit(100)
    return list(await session.scalars(query.where(tuple_(Order.created, Order.id) > after)))


async def the_second(session: AsyncSession) -> Order | None:
    return await session.scalar(select(Order).order_by(Order.id).offset(1).limit(1))


async def of_a_consumer(consumer: Consumer, partition: int, size: int) -> list[Message]:
    return await consumer.offset(partition).limit(size).read()
