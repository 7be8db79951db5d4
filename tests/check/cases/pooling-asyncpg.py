import asyncio

import asyncpg
from asyncpg import create_pool


async def of_an_attribute(self: Layer) -> list[asyncpg.Record]:
    async with self.pool.acquire() as connection:  # finds
        return await connection.fetch("SELECT 1")


async def by_hand(pool: asyncpg.Pool) -> None:
    connection = await pool.acquire()  # finds
    try:
        await connection.execute("SELECT 1")
    finally:
        await pool.release(connection)


async def with_a_transaction(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():  # finds
        await connection.execute("SELECT 1")


async def prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("json", encoder=dumps, decoder=loads, schema="pg_catalog")
    await connection.execute("SET search_path TO app")  # finds


async def open_pool(dsn: str) -> asyncpg.Pool:
    return await create_pool(dsn, min_size=2, init=prepare)


async def settings_of_each_use(connection: asyncpg.Connection) -> None:
    await connection.execute("SET statement_timeout = '2s'")


async def codecs(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("json", encoder=dumps, decoder=loads, schema="pg_catalog")


async def another_pool(dsn: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(dsn, init=codecs, setup=settings_of_each_use)


async def bounded(pool: asyncpg.Pool) -> None:
    async with pool.acquire(timeout=1) as connection:
        await connection.execute("SELECT 1")


async def a_lock(lock: asyncio.Lock) -> None:
    await lock.acquire()
    async with lock:
        pass


async def closes(pool: asyncpg.Pool) -> None:
    await pool.close()  # finds


async def closes_in_time(pool: asyncpg.Pool) -> None:
    await asyncio.wait_for(pool.close(), 5)
    async with asyncio.timeout(5):
        await pool.close()
    await connection.close()
