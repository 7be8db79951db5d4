import asyncio

from fastapi import WebSocket
from redis.asyncio import Redis


async def to_a_queue(client: Redis, queues: list[asyncio.Queue[bytes]]) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("prices")
        async for message in pubsub.listen():
            if message["type"] == "message":
                for queue in queues:
                    await queue.put(message["data"])  # finds


async def to_a_socket(client: Redis, websocket: WebSocket) -> None:
    pubsub = client.pubsub()
    await pubsub.psubscribe("prices:*")
    while True:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
        if message is not None:
            await websocket.send_text(message["data"])  # finds


class Manager:
    async def read(self) -> None:
        await self.pubsub.subscribe("prices")
        async for message in self.pubsub.listen():
            for socket in self.sockets:
                try:
                    await socket.send_json({"price": message["data"]})  # finds
                except RuntimeError:
                    self.sockets.discard(socket)


async def without_waiting(client: Redis, queues: list[asyncio.Queue[bytes]]) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("prices")
        async for message in pubsub.listen():
            for queue in queues:
                queue.put_nowait(message["data"])


async def from_a_queue(websocket: WebSocket, queue: asyncio.Queue[bytes]) -> None:
    while True:
        await websocket.send_bytes(await queue.get())


async def first_greets(client: Redis, websocket: WebSocket) -> None:
    async with client.pubsub() as pubsub:
        await websocket.send_text("hello")
        await pubsub.subscribe("prices")
        async for message in pubsub.listen():
            print(message)


async def another_kind_of_listener(server: object, queue: asyncio.Queue[bytes]) -> None:
    async for packet in server.listen():
        await queue.put(packet)
