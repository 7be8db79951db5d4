from functools import cache, lru_cache

from fastapi import Depends
from requests import Session as Http
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database import SessionLocal

Factory = async_sessionmaker(engine, expire_on_commit=False)

session = Factory()  # finds
db: AsyncSession = AsyncSession(engine, expire_on_commit=False)  # finds
shared = orm.Session(engine)  # finds
imported = SessionLocal()  # finds
http = Http()
current = None


class Orders:
    session = Factory()  # finds

    def __init__(self, session: AsyncSession) -> None:
        self.session = session


async def lifespan(app):
    app.state.db = Factory()  # finds
    app.state.factory = Factory
    yield


def connect() -> None:
    global current
    current = Factory()  # finds


async def by_default(number: int, session: AsyncSession = Factory()) -> None:  # finds
    await session.commit()


@lru_cache(maxsize=1)
def cached_session() -> AsyncSession:
    return Factory()  # finds


@cache
def cached_factory() -> async_sessionmaker:
    return async_sessionmaker(engine, expire_on_commit=False)


async def get_session():
    async with Factory() as session:
        yield session


def a_local_one() -> None:
    session = SessionLocal()
    try:
        session.commit()
    finally:
        session.close()


async def by_dependency(session: AsyncSession = Depends(get_session)) -> None:
    await session.commit()


if __name__ == "__main__":
    with orm.Session(engine) as once:
        once.commit()
