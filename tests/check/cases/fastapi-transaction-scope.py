from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

app = FastAPI()
SessionFactory = async_sessionmaker(engine)


async def in_a_try() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        try:
            yield session
            await session.commit()  # finds
        except Exception:
            await session.rollback()
            raise
        finally:
            await session.close()


def sync() -> Iterator[Session]:
    db = LocalSession()
    try:
        yield db
    except Exception:
        db.rollback()
        raise
    else:
        db.commit()  # finds
    finally:
        db.close()


async def after_the_try() -> AsyncIterator[AsyncSession]:
    session = SessionFactory()
    try:
        yield session
    except Exception:
        await session.rollback()
        raise
    await session.commit()  # finds
    logger.debug("committed")


async def by_begin():
    async with SessionFactory.begin() as session:  # finds
        yield session


async def by_begin_of_the_session():
    async with SessionFactory() as db, db.begin():  # finds
        yield db


async def by_begin_inside():
    async with SessionFactory() as db:
        async with db.begin():  # finds
            yield db


class Units:
    async def unit(self) -> AsyncIterator[UnitOfWork]:
        async with UnitOfWork(SessionFactory) as unit:
            yield unit
            await unit.commit()  # finds


@app.post("/orders")
async def create(
    one: AsyncSession = Depends(in_a_try),
    two: Session = Depends(sync),
    four: AsyncSession = Depends(by_begin, use_cache=False),
    five: AsyncSession = Depends(by_begin_of_the_session),
    six: AsyncSession = Depends(by_begin_inside),
    three: AsyncSession = Depends(function_scoped, scope="function"),
) -> None:
    one.add(Order())


async def function_scoped() -> AsyncIterator[AsyncSession]:
    async with SessionFactory.begin() as session:
        yield session


async def only_closes() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        yield session


async def commits_before() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        session.add(Visit())
        await session.commit()
        yield session


async def rolls_back() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        try:
            yield session
        finally:
            await session.rollback()


@asynccontextmanager
async def in_a_worker() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        yield session
        await session.commit()


@pytest.fixture
async def of_a_test() -> AsyncIterator[AsyncSession]:
    async with SessionFactory.begin() as session:
        yield session


async def wrapped() -> AsyncIterator[AsyncSession]:
    async with SessionFactory.begin() as session:
        yield session


unit_of_work = asynccontextmanager(wrapped)


async def for_tests() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        yield session
        await session.commit()


app.dependency_overrides[in_a_try] = for_tests


def batches(session: Session) -> Iterator[list[Order]]:
    while orders := session.scalars(select(Order).limit(100)).all():
        yield orders
        session.commit()


def each(sessions: list[Session]) -> Iterator[Session]:
    for session in sessions:
        yield session
        session.commit()
