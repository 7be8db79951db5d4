import asyncio
import time

import backoff
import tenacity
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from tenacity import retry, retry_if_exception_type, stop_after_attempt


async def with_attempts(db: AsyncSession, row: object) -> None:
    db.add(row)
    for attempt in range(3):
        try:
            await db.commit()
            break
        except OperationalError as error:  # finds
            await db.rollback()
            if attempt == 2:
                raise error
            await asyncio.sleep(2**attempt)


def with_a_counter(session: Session, query: object) -> object:
    count = 0
    while True:
        count += 1
        try:
            return session.execute(query)
        except (DBAPIError, ValueError):  # finds
            session.rollback()
            if count > 5:
                raise
        time.sleep(1)


class Store:
    async def save(self, items: list[object]) -> None:
        for _ in range(self.tries):
            try:
                self.session.add_all(items)
                await self.session.commit()
                return
            except Exception:  # finds
                await self.session.rollback()
                await asyncio.sleep(0.5)


@retry(stop=stop_after_attempt(3), retry=retry_if_exception_type(OperationalError))  # finds
async def by_tenacity(session: AsyncSession, row: object) -> None:
    session.add(row)
    await session.commit()


@tenacity.retry(retry=tenacity.retry_if_exception_type((DBAPIError, OSError)))  # finds
async def by_its_module(user_id: int, session: AsyncSession) -> None:
    await session.commit()


@backoff.on_exception(backoff.expo, OperationalError, max_tries=3)  # finds
async def by_backoff(db: AsyncSession) -> None:
    await db.commit()


async def each_by_itself(db: AsyncSession, rows: list[object]) -> None:
    for row in rows:
        try:
            db.add(row)
            await db.commit()
        except DBAPIError:
            await db.rollback()
        await asyncio.sleep(0)


async def polls(db: AsyncSession) -> None:
    while not stopped():
        try:
            await take_a_job(db)
            await db.commit()
        except Exception:
            await db.rollback()
        await asyncio.sleep(5)


async def by_state(db: AsyncSession) -> None:
    for _ in range(3):
        try:
            return await db.commit()
        except DBAPIError as error:
            await db.rollback()
            if error.orig.sqlstate != "40001":
                raise
        await asyncio.sleep(1)


async def a_new_session_for_each(make_session: object) -> None:
    while True:
        async with make_session() as session:
            try:
                await session.commit()
            except DBAPIError:
                await session.rollback()
        await asyncio.sleep(60)


async def a_session_made_in_the_loop(make_session: object) -> None:
    for _ in range(3):
        session = make_session()
        try:
            await session.commit()
        except DBAPIError:
            await session.rollback()
        await asyncio.sleep(1)


@retry(retry=retry_if_exception_type(OperationalError))
async def connects(url: str) -> None:
    await open_engine(url)


@retry(retry=retry_if_exception_type(TimeoutError))
async def asks(session: AsyncSession, partner: object) -> None:
    await partner.get()
