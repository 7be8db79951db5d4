import asyncio

import aiohttp
import backoff
import httpx
import tenacity
from tenacity import retry, retry_if_exception_type, stop_after_attempt


async def with_attempts(client: httpx.AsyncClient, body: dict[str, str]) -> object:
    for attempt in range(3):
        try:
            response = await client.post("/orders", json=body)
            return response.json()
        except httpx.HTTPError:  # finds
            if attempt == 2:
                raise
            await asyncio.sleep(2**attempt)
    return None


async def with_a_counter(session: aiohttp.ClientSession, body: dict[str, str]) -> object:
    tries = 0
    while tries < 5:
        try:
            async with session.get("/token") as answer:
                token = await answer.text()
            response = await session.post("/orders", json=body, headers={"token": token})
            break
        except (aiohttp.ClientError, TimeoutError):  # finds
            tries += 1
            await asyncio.sleep(1)
    return response


class Partner:
    async def send(self, body: dict[str, str]) -> object:
        for _ in range(self.tries):
            try:
                response = await self.client.post("/orders", json=body)
            except (httpx.ReadTimeout, httpx.ConnectTimeout) as error:  # finds
                print(error)
            else:
                return response
        return None


@retry(stop=stop_after_attempt(3), retry=retry_if_exception_type(httpx.TransportError))  # finds
async def by_tenacity(client: httpx.AsyncClient) -> object:
    return await client.post("/orders")


@tenacity.retry(retry=tenacity.retry_if_exception_type((httpx.ReadTimeout, OSError)))  # finds
async def by_its_module(client: httpx.AsyncClient) -> object:
    return await client.post("/orders")


@backoff.on_exception(backoff.expo, aiohttp.ClientError, max_tries=3)  # finds
async def by_backoff(session: aiohttp.ClientSession) -> object:
    return await session.post("/orders")


async def with_a_key(client: httpx.AsyncClient, key: str) -> object:
    for attempt in range(3):
        try:
            return await client.post("/orders", headers={"Idempotency-Key": key})
        except httpx.TransportError:
            await asyncio.sleep(2**attempt)
    return None


async def reads(client: httpx.AsyncClient) -> object:
    for attempt in range(3):
        try:
            return await client.get("/orders")
        except httpx.TransportError:
            await asyncio.sleep(2**attempt)
    return None


async def only_what_was_not_sent(client: httpx.AsyncClient) -> object:
    for attempt in range(3):
        try:
            return await client.post("/orders")
        except httpx.ConnectError:
            await asyncio.sleep(2**attempt)
    return None


async def each_by_itself(client: httpx.AsyncClient, bodies: list[object]) -> None:
    for body in bodies:
        try:
            await client.post("/orders", json=body)
        except httpx.HTTPError:
            await asyncio.sleep(1)


async def gives_up(client: httpx.AsyncClient) -> object:
    for _ in range(3):
        try:
            response = await client.post("/orders")
            if response.status_code != 503:
                return response
        except httpx.HTTPError:
            return None
    return None


@retry(retry=retry_if_exception_type(httpx.TransportError))
async def reads_again(client: httpx.AsyncClient) -> object:
    return await client.get("/orders")


@retry(retry=retry_if_exception_type(httpx.ConnectError))
async def connects_again(client: httpx.AsyncClient) -> object:
    return await client.post("/orders")
