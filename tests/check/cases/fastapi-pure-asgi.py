import datetime as dt
import time
from contextvars import ContextVar
from time import monotonic

from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
user: ContextVar[str] = ContextVar("user", default="-")
tenant = ContextVar("tenant")


@app.middleware("http")
async def process_time(request: Request, call_next):  # finds
    begun = time.time()
    response = await call_next(request)
    response.headers["X-Process-Time"] = str(time.time() - begun)  # finds
    return response


class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, handler):  # finds
        begun = monotonic()
        try:
            return await handler(request)
        finally:
            ended = monotonic()
            histogram.observe(ended - begun)  # finds


class AccessLog(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):  # finds
        since = dt.datetime.now(dt.UTC)
        response = await call_next(request)
        logger.info("%s", request.url.path)
        logger.info("user=%s", user.get())  # finds
        logger.info("%s", (dt.datetime.now(dt.UTC) - since).total_seconds())  # finds
        return response


@app.middleware("http")
async def log_user(request: Request, call_next):  # finds
    try:
        return await call_next(request)
    finally:
        logger.info("user=%s", user.get())  # finds


@app.middleware("http")
async def sets_it(request: Request, call_next):  # finds
    tenant.set(request.headers["X-Tenant"])
    response = await call_next(request)
    logger.info("tenant=%s", tenant.get())
    return response


@app.middleware("http")
async def reads_it_before(request: Request, call_next):  # finds
    logger.info("user=%s", user.get())
    return await call_next(request)


@app.middleware("http")
async def counts(request: Request, call_next):  # finds
    age = time.time() - float(request.headers.get("X-Queued-At", "0"))
    queue.observe(age)
    response = await call_next(request)
    response.headers["X-Version"] = VERSION
    return response


@app.middleware("http")
async def times_the_body(request: Request, call_next):  # finds
    begun = time.perf_counter()
    response = await call_next(request)
    body = response.body_iterator

    async def timed():
        async for chunk in body:
            yield chunk
        histogram.observe(time.perf_counter() - begun)

    response.body_iterator = timed()
    return response


class PureTiming:
    async def __call__(self, scope, receive, send) -> None:
        begun = time.perf_counter()
        try:
            await self.app(scope, receive, send)
        finally:
            histogram.observe(time.perf_counter() - begun)
            logger.info("user=%s", user.get())


async def in_a_service(request: Request) -> float:
    begun = time.perf_counter()
    await work(request)
    return time.perf_counter() - begun


class Pure:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        begun = time.perf_counter()
        await self.app(scope, receive, send)
        histogram.observe(time.perf_counter() - begun)


class NoMiddleware:
    async def dispatch(self, request: Request, call_next):
        return await call_next(request)


@app.middleware("websocket")
def registers(handler):
    return handler
