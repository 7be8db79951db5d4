"""What a connection to the HTTP server is, before anything is asked on it."""

from __future__ import annotations

import asyncio
import socket

from uvicorn import Config
from uvicorn.server import ServerState

from packlore.serve.connections import Protocol
from tests.services.process import HOST


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application that is not asked."""


async def no_delay() -> int:
    """TCP_NODELAY of a connection to a listener as uvicorn binds it."""
    config = Config(nothing, interface="asgi3", log_config=None)
    config.load()
    made: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Seen(Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            seen = transport.get_extra_info("socket")
            made.set_result(seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    listener = socket.socket(socket.AF_INET)
    listener.bind((HOST, 0))
    server = await asyncio.get_running_loop().create_server(
        lambda: Seen(config, ServerState(), {}), sock=listener
    )
    async with server:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await made
        finally:
            writer.close()
            await writer.wait_closed()


def test_the_body_of_an_answer_does_not_wait_for_the_receipt_of_its_headers() -> None:
    assert asyncio.run(no_delay()) != 0
