import asyncio
from asyncio import sleep
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

app = FastAPI()


async def notify(number: int) -> None: ...


async def is_admin(user: str) -> bool: ...


def log(number: int) -> None: ...


@app.post("/orders")
async def create(number: int, user: str, db: AsyncSession = Depends(get_db)) -> None:
    if not is_admin(user):  # finds
        raise HTTPException(403)
    db.add(Order(number=number))
    db.commit()  # finds
    notify(number)  # finds
    asyncio.sleep(1)  # finds
    sleep(1)  # finds


async def stored(order: Order, session: Annotated[AsyncSession, Depends(get_db)]) -> Order:
    if order.number and is_admin(order.user):  # finds
        session.add(order)
    elif is_admin(""):  # finds
        session.refresh(order)  # finds
    return order


class Orders:
    async def begin(self) -> None:
        self.check(1)  # finds
        if self.allowed():  # finds
            return

    async def check(self, number: int) -> None: ...

    async def allowed(self) -> bool: ...


class Others:
    def save(self) -> None: ...

    async def right(self, session: AsyncSession, sync: Session, other: object) -> object:
        await self.check(1)
        self.save()
        self.orders.check(1)
        other.check(1)
        await session.commit()
        session.add(Order())
        session.expunge(Order())
        sync.commit()
        await asyncio.gather(notify(1), notify(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(notify(3))
        kept = asyncio.create_task(notify(4))
        log(4)
        if await is_admin("x") and not await is_admin("y"):
            return notify
        if is_admin:
            await kept
        asyncio.run_coroutine_threadsafe(notify(5), loop)
        await asyncio.sleep(1)
        return notify(6)


asyncio.run(notify(1))
