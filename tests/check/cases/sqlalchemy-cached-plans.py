import sqlalchemy as sa
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


async def of_a_session(session: AsyncSession) -> list[object]:
    return (await session.execute(text("SELECT * FROM orders"))).all()  # finds


async def of_a_join(session: AsyncSession, key: int) -> list[object]:
    query = sa.text("select o.* from orders o join lines l on l.order_id = o.id where o.id = :key")  # finds
    return (await session.execute(query, {"key": key})).all()


async def of_an_insert(session: AsyncSession) -> object:
    query = text(  # finds
        """
        INSERT INTO orders (number) VALUES (:number)
        RETURNING *
        """
    )
    return (await session.execute(query, {"number": "a"})).one()


async def of_the_driver(connection: AsyncConnection) -> list[object]:
    result = await connection.exec_driver_sql("SELECT * FROM orders WHERE id > $1", (5,))  # finds
    return result.all()


async def named(session: AsyncSession) -> list[object]:
    return (await session.execute(text("SELECT id, number FROM orders"))).all()


async def counted(session: AsyncSession) -> int:
    return await session.scalar(text("SELECT count(*) FROM orders"))


async def of_the_orm(session: AsyncSession) -> list[object]:
    return (await session.scalars(select(Order))).all()


async def multiplied(session: AsyncSession) -> int:
    return await session.scalar(text("SELECT price * amount FROM lines"))


def of_another_library(page: Page) -> str:
    return page.text("SELECT * FROM orders")
