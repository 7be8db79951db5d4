import asyncpg
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

engine = create_async_engine(url)  # finds
synchronous = create_engine(url, echo=False, pool_size=10)  # finds
SessionFactory = async_sessionmaker(engine)
pinged = create_engine(url, pool_pre_ping=True)  # finds
recycled = create_async_engine(url, pool_pre_ping=True, pool_recycle=300)  # finds


def get_engine():
    return create_engine(url, future=True)  # finds


async def get_pool():
    return await asyncpg.create_pool(url, min_size=2)  # finds


# Right: dead connections are replaced, and waits end.

whole = create_async_engine(
    url,
    pool_pre_ping=True,
    pool_recycle=180,
    connect_args={"timeout": 5, "command_timeout": 5},
)
unpooled = create_async_engine(url, poolclass=NullPool)
local = create_engine("sqlite:///data.db")
given = create_engine(url, **settings.engine)
bounded = sessionmaker(create_engine(url, pool_recycle=300))


async def get_bounded_pool():
    return await asyncpg.create_pool(url, command_timeout=5)


def a_script():
    once = create_engine(url)
    once.dispose()
