from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession

router = APIRouter()


async def count_orders(session: AsyncSession = Depends(get_session)) -> int: ...


def of_customer(number: int, store=Depends(get_store)) -> list[Order]: ...


class Orders:
    def __init__(self, session: AsyncSession = Depends(get_session)) -> None:
        self.session = session


@router.get("/report")
async def report() -> int:
    return await count_orders()  # finds


async def nightly() -> None:
    for number in (1, 2):
        send(of_customer(number))  # finds
    orders = Orders()  # finds
    await orders.close()


async def in_the_body() -> None:
    session = Depends(get_session)  # finds
    try:
        store = Depends(get_store)  # finds
    finally:
        await session.close()


@router.get("/right")
async def right(
    session: Annotated[AsyncSession, Depends(get_session)],
    count: int = Depends(count_orders),
    orders: Orders = Depends(Orders),
) -> int:
    total = await count_orders(session)
    total += await count_orders(session=session)
    of_customer(7, store=open_session())
    Orders(session)
    return total + count + plain(7)


def plain(number: int) -> int: ...


def guard(role: str):
    checked = [Depends(get_session)]
    return Depends(lambda: role)


class Views:
    session: AsyncSession = Depends(get_session)

    async def read(self) -> int:
        return await self.count_orders()


Session = Annotated[AsyncSession, Depends(get_session)]
limited = Depends(get_session)
app.dependency_overrides[count_orders] = lambda: 7
