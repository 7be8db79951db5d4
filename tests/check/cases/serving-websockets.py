import asyncio
from asyncio import gather


class ConnectionManager:
    def __init__(self):
        self.active_connections = []
        self.users = {}

    async def broadcast(self, message):
        for connection in self.active_connections:
            await connection.send_text(message)  # finds

    async def careful(self, message):
        for connection in list(self.active_connections):
            try:
                await connection.send_json(message)  # finds
            except Exception:
                self.active_connections.remove(connection)

    async def to_users(self, message):
        for user, socket in self.users.items():
            if user != message.author:
                await socket.send_json(message.body)  # finds

    async def by_key(self, message):
        for user in message.readers:
            if user in self.users:
                await self.users[user].send_bytes(message.body)  # finds

    async def of_an_object(self, message):
        for client in self.clients:
            await client.websocket.send_text(message)  # finds

    async def at_once(self, message):
        await asyncio.gather(*[each.send_text(message) for each in self.active_connections])  # finds

    async def at_once_and_careful(self, message):
        await gather(*(each.send_json(message) for each in self.users.values()), return_exceptions=True)  # finds

    async def limited(self, message):
        for connection in self.active_connections:
            await asyncio.wait_for(connection.send_text(message), 1)

    async def close(self):
        for connection in self.active_connections:
            await connection.close(1001)


async def history(websocket, messages):
    for message in messages:
        await websocket.send_text(message)
    for message in messages:
        await websocket.send_json(message.body)


async def one_by_one(client, orders):
    for order in orders:
        await client.post("/orders", json=order)


def put(outboxes, message):
    for outbox in outboxes:
        outbox.put_nowait(message)
