import time
from time import sleep as pause

import requests


async def a_plain_call() -> None:
    time.sleep(1)  # finds


async def by_another_name() -> None:
    pause(1)  # finds


async def inside_of_blocks(url: str) -> None:
    async with lock:
        for _ in range(3):
            requests.post(url)  # finds


def in_a_thread(url: str) -> None:
    requests.get(url)


async def handed_to_a_thread(url: str) -> None:
    await asyncio.to_thread(requests.get, url)
    await loop.run_in_executor(None, lambda: requests.get(url))


async def a_parameter_of_that_name(requests: dict[str, str]) -> None:
    requests.get("key")
