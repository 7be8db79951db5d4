from collections.abc import AsyncIterator

from fastapi import Request
from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, ConnectionPool


async def of_the_app(request: Request) -> AsyncConnection:
    async with request.app.state.pool.connection() as conn:
        return conn  # finds


def of_a_global() -> Connection:
    with pool.connection(timeout=2) as conn:
        return conn  # finds


class Database:
    async def connect(self) -> AsyncConnection:
        try:
            async with lock, self.pool.connection() as connection:
                await connection.execute("SELECT 1")
                return connection  # finds
        except OSError:
            raise Unavailable from None


async def yields(pool: AsyncConnectionPool) -> AsyncIterator[AsyncConnection]:
    async with pool.connection() as conn:
        yield conn


async def returns_a_row(pool: AsyncConnectionPool) -> tuple[int] | None:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT 1")
        return await cursor.fetchone()


async def returns_a_result(pool: AsyncConnectionPool) -> list[int]:
    async with pool.connection() as conn:
        rows = await numbers(conn)
        return rows


def after_the_block(pool: ConnectionPool) -> bool:
    conn = None
    with pool.connection() as found:
        found.execute("SELECT 1")
    return conn


async def function_in_the_block(pool: AsyncConnectionPool) -> int:
    async with pool.connection() as conn:

        def same(conn: int) -> int:
            return conn

        return same(1)
