"""A network that falls silent, and an asyncpg that waits a tenth as long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Self

import asyncpg
import pytest

from tests.services import Database, free_port
from tests.services.process import HOST


class Network:
    """What lies between a pool and its server: counts the client's packets, or drops them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flows: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._port = free_port()
        self.requests = 0
        self.dropped = b""
        self.lose_answer_to = b""
        """A connection that sends this ends, once the server has answered."""

    def url(self, driver: str = "asyncpg") -> str:
        direct, port = self._database.url(driver), self._database.server.port
        return direct.replace(f":{port}/", f":{self._port}/")

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._connected, HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection(HOST, self._database.server.port)
        flow: dict[str, Any] = {"silent": False, "writers": (writer, back)}
        self._flows.append(flow)

        async def pump(source: asyncio.StreamReader, to: asyncio.StreamWriter, count: int) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    if count and self.lose_answer_to and self.lose_answer_to in data:
                        flow["lost"], self.lose_answer_to = True, b""
                    elif flow.get("lost") and not count:
                        break
                    if flow["silent"]:
                        self.dropped += data
                    else:
                        self.requests += count
                        to.write(data)
            if not flow["silent"]:
                to.close()

        await asyncio.gather(pump(reader, back, 1), pump(there, writer, 0))

    def fall_silent(self) -> None:
        """Drop whatever is sent over the connections of today; new ones work."""
        for flow in self._flows:
            flow["silent"] = True

    def end_connections(self) -> None:
        for flow in self._flows:
            for writer in flow["writers"]:
                writer.close()

    async def go_down(self) -> None:
        """End all connections and refuse new ones."""
        self._listener.close()
        self.end_connections()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)


def hurried(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give asyncpg a tenth of the seconds that it is told to wait; tells what it was told."""
    given: dict[str, Any] = {}
    connect = asyncpg.connect

    async def connect_sooner(*args: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        for name in ("timeout", "command_timeout"):
            if name in kwargs:
                kwargs[name] /= 10
        settings = dict(kwargs.get("server_settings") or {})
        if "statement_timeout" in settings:
            settings["statement_timeout"] = str(int(settings["statement_timeout"]) // 10)
        return await connect(*args, **{**kwargs, "server_settings": settings})

    monkeypatch.setattr(asyncpg, "connect", connect_sooner)
    return given
