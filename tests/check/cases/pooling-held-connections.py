import asyncio

import httpx
import requests
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


async def in_the_block(order_id: int) -> None:
    async with SessionFactory() as session:
        order = await session.get(Order, order_id)
        async with httpx.AsyncClient() as client:
            response = await client.post(PAYMENT_URL, json={"amount": order.amount})  # finds
        order.receipt = response.json()["receipt"]
        await session.commit()


async def with_the_session_of_a_request(order_id: int, db: AsyncSession = Depends(get_db)) -> None:
    order = (await db.execute(select(Order).where(Order.id == order_id))).scalar_one()
    response = await client.get(f"https://example.com/rates/{order.currency}")  # finds
    order.rate = response.json()["rate"]
    await db.commit()


async def asks_a_model(session: AsyncSession, chat: int) -> str:
    rows = await session.scalars(select(Message).where(Message.chat_id == chat))
    answer = await openai.chat.completions.create(model="m", messages=list(rows))  # finds
    session.add(Message(chat_id=chat, text=answer))
    await session.commit()
    return answer


def synchronous(session: Session, user_id: int) -> None:
    user = session.scalar(select(User).where(User.id == user_id))
    requests.post("https://example.com/hooks", json={"name": user.name})  # finds


async def waits_for_a_retry() -> None:
    async with SessionFactory.begin() as session:
        while not (await session.execute(query)).first():
            await asyncio.sleep(1)  # finds


async def between_two_transactions(order_id: int) -> None:
    async with SessionFactory() as session:
        order = await session.get(Order, order_id)
    response = await client.post("/charges", json={"amount": order.amount})
    async with SessionFactory() as session:
        await session.execute(store(response.json()))
        await session.commit()


async def given_back(session: AsyncSession, order_id: int) -> None:
    order = await session.get(Order, order_id)
    await session.commit()
    response = await client.post("/charges", json={"amount": order.amount})
    order.receipt = response.json()["receipt"]
    await session.commit()


async def asked_before(session: AsyncSession, code: str) -> None:
    response = await client.post(TOKEN_URL, data={"code": code})
    user = (await session.execute(select(User))).scalar_one()
    user.token = response.json()["token"]
    await session.commit()


async def a_session_of_a_client(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            await response.json()
        await session.post("https://example.com/done")


async def other_gets(session: AsyncSession, user_id: int) -> None:
    user = await session.get(User, user_id)
    name = settings.get("/name")
    await cache.delete("/users")
    await asyncio.sleep(0)
    user.name = name
