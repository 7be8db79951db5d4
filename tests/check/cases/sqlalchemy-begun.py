from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

router = APIRouter()


async def after_a_read(session: AsyncSession, key: int) -> None:
    user = await session.get(User, key)
    if user is None:
        raise LookupError(key)
    async with session.begin():  # finds
        session.add(Order(user_id=user.id))


class Service:
    async def after_a_select(self, number: int) -> None:
        result = await self.session.execute(select(Order).where(Order.number == number))
        order = result.scalar_one_or_none()
        async with self.session.begin():  # finds
            order.state = "closed"


async def in_a_try(db: AsyncSession) -> None:
    count = await db.scalar(select(Order.id))
    try:
        async with db.begin():  # finds
            db.add(Order(number=count))
    except ValueError:
        pass


@router.post("/orders")
async def in_a_route(session: Annotated[AsyncSession, Depends(get_session)]) -> None:
    async with session.begin():  # finds
        session.add(Order())


@router.post("/orders/{number}")
async def in_a_route_of_old(number: int, db: AsyncSession = Depends(get_db)) -> None:
    async with db.begin():  # finds
        db.add(Order(number=number))


async def with_its_own(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        session.add(Order())


async def of_a_factory() -> None:
    async with SessionFactory.begin() as session:
        await session.execute(select(Order))


async def a_savepoint(session: AsyncSession) -> None:
    await session.execute(select(Order))
    async with session.begin_nested():
        session.add(Order())


async def reads_within(session: AsyncSession) -> None:
    async with session.begin():
        await session.execute(select(Order))
    async with session.begin():
        session.add(Order())


async def ended_before(session: AsyncSession) -> None:
    await session.execute(select(Order))
    await session.rollback()
    async with session.begin():
        session.add(Order())
