"""A way to a server on which the answers can be held back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field

from tests.services.process import HOST


@dataclass
class Proxy:
    """Passes on what clients send, and the server's answers only while `answering` is set.

    Once a client sends `silent_after`, `answering` is cleared.
    """

    port: int = 0
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    silent_after: bytes | None = None

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.silent_after and self.silent_after in data:
                self.silent_after = None
                self.answering.clear()
            writer.write(data)
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b"-"
        while data:
            data = await reader.read(65536)
            await self.answering.wait()
            writer.write(data)
        writer.close()

    async def connect(
        self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError), closing(writer):
            from_server, to_server = await asyncio.open_connection(HOST, to)
            with closing(to_server):
                await asyncio.gather(
                    self._requests(reader, to_server), self._answers(from_server, writer)
                )


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """Stand before the server on `port` while the body runs."""
    proxy = Proxy()
    proxy.answering.set()
    tasks: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(proxy.connect(port, reader, writer)))

    server = await asyncio.start_server(accept, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # so that the connections are closed
