"""Engines of proofs on a database that has the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase


@asynccontextmanager
async def engine_with(
    base: type[DeclarativeBase], url: str | URL, **options: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection in its pool, on a database with the tables of `base`."""
    engine = create_async_engine(url, **options)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()
