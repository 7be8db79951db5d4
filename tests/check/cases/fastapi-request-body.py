from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request as Asked
from starlette.types import Message, Receive, Scope, Send

app = FastAPI()


class Audit:
    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)  # finds
            payload = await request.json()
            audit(payload)
        await self.app(scope, receive, send)


def signed(inner):
    async def middleware(scope, receive, send):
        if not right(await Asked(scope, receive).body()):  # finds
            return
        await inner(scope, receive, send)

    return middleware


@app.middleware("http")
async def of_a_form(request: Request, call_next):
    form = await request.form()  # finds
    audit(form)
    return await call_next(request)


class Streams(BaseHTTPMiddleware):
    async def dispatch(self, asked: Request, call_next):
        size = 0
        async for part in asked.stream():  # finds
            size += len(part)
        return await call_next(asked)


class Right:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_see() -> Message:
            return await receive()

        await self.app(scope, receive_and_see, send)


class Headers:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        audit(request.headers, request.url)
        await self.app(scope, receive, send)


class Replays:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()

        async def replay() -> Message:
            return {"type": "http.request", "body": body}

        await self.app(scope, replay, send)


class Small(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):
        audit(await request.body())
        return await call_next(request)


@app.post("/upload")
async def upload(request: Request) -> int:
    await request.form()
    return sum([len(part) async for part in request.stream()])
