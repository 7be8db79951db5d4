import asyncio
from asyncio import create_task
from contextlib import asynccontextmanager

from app.scheduler import nightly_scheduler
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from fastapi_utils.tasks import repeat_every

scheduler = AsyncIOScheduler()


async def clean_up_daily() -> None:
    while True:
        await clean_up()
        await asyncio.sleep(24 * 60 * 60)


class Reports:
    async def send(self) -> None:
        pass


async def refresh(interval: int) -> None:
    while True:
        await asyncio.sleep(600)
        await send_mails()


async def poll() -> None:
    while True:
        await run_due()
        await asyncio.sleep(30)


async def once() -> None:
    await asyncio.sleep(600)


@asynccontextmanager
async def lifespan(app: FastAPI):
    scheduler.add_job(clean_up, "cron", hour=3)
    scheduler.start()  # finds
    task = asyncio.create_task(clean_up_daily())  # finds
    other = create_task(refresh(interval=5), name="refresh")  # finds
    polling = asyncio.create_task(poll())
    waiting = asyncio.create_task(once())
    yield
    task.cancel()
    scheduler.shutdown()


@asynccontextmanager
async def another(application: FastAPI):
    app.state.task = create_task(refresh(60))  # finds
    yield


@app.on_event("startup")
async def start() -> None:
    nightly_scheduler.start()  # finds


@app.on_event("startup")
@repeat_every(seconds=60)  # finds
async def every_minute() -> None:
    await send_mails()


def main() -> None:
    scheduler.start()


async def run_worker() -> None:
    task = asyncio.create_task(clean_up_daily())
    await task


@app.on_event("startup")
async def connect() -> None:
    thread.start()
