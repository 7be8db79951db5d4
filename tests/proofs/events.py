"""A client of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

PATIENCE = 5.0  # seconds, for what takes milliseconds


@dataclass
class Stream:
    """A client of a stream: its events as a browser reads them, and its comments."""

    events: list[str] = field(default_factory=list)
    comments: int = 0
    error: Exception | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)

    async def _read(self, url: str) -> None:
        """Read as the HTML standard says, of the fields only `data`."""
        rest = ""
        try:
            async with (
                httpx.AsyncClient(timeout=2 * PATIENCE) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as response,
            ):
                self.headers = response.headers
                async for text in response.aiter_text():
                    *blocks, rest = (rest + text).split("\n\n")
                    for block in blocks:
                        self._take(block.split("\n"))
        except httpx.HTTPError as error:
            self.error = error

    def _take(self, lines: list[str]) -> None:
        self.comments += sum(line.startswith(":") for line in lines)
        if data := [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]:
            self.events.append("\n".join(data))

    async def holds(self, number: int, seconds: float = PATIENCE) -> bool:
        """Whether so many events have arrived by then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.events) < number and self.error is None:
                    await asyncio.sleep(0.005)
        return len(self.events) >= number


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Stream]:
    """Read a stream until the end of the block, and leave."""
    stream = Stream()
    task = asyncio.create_task(stream._read(url))
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.wait([task])
