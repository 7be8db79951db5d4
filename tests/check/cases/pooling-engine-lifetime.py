import asyncio
from contextlib import asynccontextmanager
from functools import lru_cache

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool


async def get_db() -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(DATABASE_URL, pool_pre_ping=True)  # finds
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    async with sessions() as session:
        yield session


def get_sync_db() -> Iterator[Session]:
    engine = create_engine(DATABASE_URL)  # finds
    db = sessionmaker(bind=engine)()
    try:
        yield db
    finally:
        db.close()


async def disposed_of_at_each_request() -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(DATABASE_URL)  # finds
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


def get_engine() -> AsyncEngine:
    return create_async_engine(DATABASE_URL)  # finds


async def list_orders(engine: AsyncEngine = Depends(get_engine)) -> list[Order]:
    async with AsyncSession(engine) as session:
        return list(await session.scalars(query))


async def send_mails() -> None:
    engine = create_async_engine(DATABASE_URL)  # finds
    async with engine.connect() as connection:
        await connection.execute(query)


@lru_cache
def get_one_engine() -> AsyncEngine:
    return create_async_engine(DATABASE_URL)


async def list_items(engine: AsyncEngine = Depends(get_one_engine)) -> list[Item]:
    return []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_async_engine(DATABASE_URL)
    app.state.sessions = async_sessionmaker(engine)
    async with engine.connect():
        pass
    yield
    await engine.dispose()


async def main() -> None:
    engine = create_async_engine(DATABASE_URL)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    finally:
        await engine.dispose()


async def without_a_pool() -> None:
    engine = create_async_engine(DATABASE_URL, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(query)


def make_sessions(url: str) -> async_sessionmaker[AsyncSession]:
    engine = create_async_engine(url)
    return async_sessionmaker(engine)


class Database:
    def __init__(self, url: str) -> None:
        engine = create_async_engine(url)
        self.engine = engine


class Store:
    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)  # finds


class DisposedStore:
    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)

    def close(self) -> None:
        self.engine.dispose()


class GivenStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
