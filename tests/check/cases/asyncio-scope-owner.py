import asyncio
from contextlib import AsyncExitStack

import httpx
from aiohttp import ClientSession as AioSession
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


class McpClient:
    def __init__(self):
        self.session = None
        self.exit_stack = AsyncExitStack()

    async def connect_to_server(self, path):
        server = StdioServerParameters(command="python", args=[path])
        read, write = await self.exit_stack.enter_async_context(stdio_client(server))
        self.session = await self.exit_stack.enter_async_context(ClientSession(read, write))

    async def cleanup(self):
        await self.exit_stack.aclose()  # finds


class Server:
    async def connect(self):
        self.stack = AsyncExitStack()
        transport = await self.stack.enter_async_context(streamable_http_client(self.url))
        self.session = await self.stack.enter_async_context(ClientSession(*transport))

    async def close(self):
        async with self.lock:
            try:
                await asyncio.wait_for(self.stack.aclose(), 5)  # finds
            finally:
                self.session = None


class Lazy:
    def __init__(self):
        self._exit = AsyncExitStack()

    async def session(self):
        if self._session is None:
            self._session = await self._exit.enter_async_context(open_session(self.url))
        return self._session

    def __del__(self):
        asyncio.create_task(self._exit.aclose())  # finds


class ByItself:
    async def __aenter__(self):
        self._stack = AsyncExitStack()
        self.session = await self._stack.enter_async_context(open_session(self.url))
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()


class InOneCall:
    async def run(self):
        try:
            session = await self.stack.enter_async_context(open_session(self.url))
            await self.serve(session)
        finally:
            await self.stack.aclose()


class Http:
    async def start(self):
        self.client = await self.stack.enter_async_context(httpx.AsyncClient())
        self.web = await self.stack.enter_async_context(AioSession())
        self.connection = await self.stack.enter_async_context(self.pool.acquire())

    async def stop(self):
        await self.stack.aclose()


class Callbacks:
    async def start(self):
        self.stack.push_async_callback(self.engine.dispose)

    async def stop(self):
        await self.stack.aclose()
