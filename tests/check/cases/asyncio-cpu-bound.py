import asyncio
import concurrent.futures
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

pool = ProcessPoolExecutor(4)  # finds
threads = ThreadPoolExecutor(4)


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pool = concurrent.futures.ProcessPoolExecutor(max_workers=2)  # finds
    yield
    app.state.pool.shutdown()


class Reports:
    def __init__(self, processes: int) -> None:
        self.pool: ProcessPoolExecutor = ProcessPoolExecutor(processes)  # finds


async def compute(number: int) -> int:
    return await asyncio.get_running_loop().run_in_executor(pool, work, number)


async def once(numbers: list[int]) -> list[int]:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor() as own:
        return await asyncio.gather(*(loop.run_in_executor(own, work, each) for each in numbers))
