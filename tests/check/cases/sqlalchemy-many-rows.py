from collections.abc import AsyncIterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


async def rows_of_a_generator(session: AsyncSession) -> AsyncIterator[str]:
    result = await session.execute(select(Order))
    for order in result.scalars().all():
        yield order.number


async def scalars_of_a_generator(db: AsyncSession) -> AsyncIterator[str]:
    for order in await db.scalars(select(Order)):  # finds
        yield order.number


async def all_of_a_generator(session: AsyncSession) -> AsyncIterator[str]:
    for order in (await session.execute(select(Order))).scalars().all():  # finds
        yield order.number


async def rows(connection: AsyncConnection) -> AsyncIterator[str]:
    for row in await connection.execute(select(orders)):  # finds
        yield row.number


async def stream_of_objects(session: AsyncSession) -> int:
    count = 0
    async for order in await session.stream_scalars(select(Order)):  # finds
        count += order.amount
    return count


async def stream_with_a_name(self) -> AsyncIterator[Order]:
    result = await self.session.stream(select(Order).order_by(Order.id))  # finds
    async for order in result.scalars():
        yield order


async def a_cursor_in_execute(session: AsyncSession) -> int:
    result = await session.execute(select(Order).execution_options(yield_per=100))  # finds
    return sum(order.amount for order in result.scalars())


async def a_cursor_in_scalars(session: AsyncSession) -> int:
    found = await session.scalars(select(Order), execution_options={"yield_per": 100})  # finds
    return sum(order.amount for order in found)


async def with_yield_per(session: AsyncSession) -> AsyncIterator[Order]:
    query = select(Order).execution_options(yield_per=500)
    async for order in await session.stream_scalars(query):
        yield order


async def with_yield_per_of_the_result(session: AsyncSession) -> AsyncIterator[Order]:
    async for order in (await session.stream_scalars(select(Order))).yield_per(500):
        yield order


async def in_partitions(session: AsyncSession) -> AsyncIterator[list[Order]]:
    async for orders in (await session.stream_scalars(select(Order))).partitions(500):
        yield orders


async def of_a_connection(connection: AsyncConnection) -> AsyncIterator[str]:
    async with connection.stream(select(orders)) as result:
        async for row in result:
            yield row.number


async def of_a_client(client) -> AsyncIterator[str]:
    async for event in await client.messages.stream(model="small"):
        yield event


async def a_page(session: AsyncSession) -> AsyncIterator[Order]:
    for order in await session.scalars(select(Order).limit(20)):
        yield order


async def a_list(session: AsyncSession) -> list[str]:
    return [order.number for order in await session.scalars(select(Order))]
