import asyncio
from asyncio import new_event_loop, run

import anyio.from_thread
from fastapi import Depends, FastAPI

app = FastAPI()


def rate(currency: str) -> float:
    return asyncio.run(client.get(f"/rates/{currency}")).json()  # finds


class Rates:
    def get(self, currency: str) -> float:
        loop = asyncio.new_event_loop()
        return loop.run_until_complete(self.http.get(currency)).json()  # finds

    def cached(self, currency: str) -> float:
        return run(self._redis.get(currency))  # finds


@app.get("/sync")
def in_a_thread(number: int) -> str:
    return asyncio.run(load(number))  # finds


def user(token: str) -> str:
    loop = new_event_loop()  # finds
    return loop.run_until_complete(find(token))


@app.get("/async")
async def in_the_loop(number: int, by: str = Depends(user)) -> str:
    if number:
        return asyncio.run(load(number))  # finds
    return asyncio.get_event_loop().run_until_complete(load(number))  # finds


@app.get("/right")
def right(number: int) -> str:
    return anyio.from_thread.run(load, number)


def other(number: int) -> str:
    return asyncio.run_coroutine_threadsafe(client.get(number), loop).result(10)


async def load(number: int) -> str:
    def in_another_thread() -> str:
        return asyncio.run(compute(number))

    return await asyncio.to_thread(in_another_thread)


def with_a_client_of_its_own(number: int) -> str:
    client = Client()
    return asyncio.run(client.get(number))


def main() -> None:
    asyncio.run(client.get("/"))


def report(number: int) -> str:
    return asyncio.run(load(number))


async def serve() -> None: ...


if __name__ == "__main__":
    asyncio.run(serve())
