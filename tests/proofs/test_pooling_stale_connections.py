"""Connections that died or went silent in the pool fail requests, unless they are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from tests.proofs.harness import Block, Witness
from tests.services import Database
from tests.services.process import HOST

KILL = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
POOL = 3
DRIVERS = ("asyncpg", "psycopg")


class Network:
    """What lies between a pool and its server: counts round trips, and may drop them silently."""

    def __init__(self, database: Database) -> None:
        self._target = (database.server.host, database.server.port)
        self._flows: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: Any = None
        self._name = database.name
        self.round_trips = 0

    def url(self, driver: str = "asyncpg") -> str:
        return f"postgresql+{driver}://postgres@{HOST}:{self.port}/{self._name}"

    async def __aenter__(self) -> Network:
        self._listener = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task() or asyncio.ensure_future(asyncio.sleep(0)))
        there, back = await asyncio.open_connection(*self._target)
        flow: dict[str, Any] = {"silent": False, "writers": (writer, back)}
        self._flows.append(flow)

        async def pump(source: asyncio.StreamReader, to: asyncio.StreamWriter, trips: int) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    if not flow["silent"]:
                        self.round_trips += trips
                        to.write(data)
            if not flow["silent"]:
                to.close()

        await asyncio.gather(pump(reader, back, 1), pump(there, writer, 0))

    def fall_silent(self) -> None:
        """Drop whatever is sent over the connections of today; new ones work."""
        for flow in self._flows:
            flow["silent"] = True

    async def go_down(self) -> None:
        """End all connections and refuse new ones."""
        self._listener.close()
        for flow in self._flows:
            for writer in flow["writers"]:
                writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()


@asynccontextmanager
async def _network(database: Database) -> AsyncIterator[Network]:
    async with Network(database) as network:
        yield network
