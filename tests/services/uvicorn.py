"""A real uvicorn in the running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.services.process import HOST, ServiceFailed

START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Served:
    """Where an application is served."""

    port: int

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"


class _Lifespan:
    """Wraps an application to keep what uvicorn does not: its lifespan's task and its error."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self.task: asyncio.Task[Any] | None = None
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        self.task = asyncio.current_task()
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            self.error = error
            raise


class _Server(uvicorn.Server):
    """uvicorn without its hold on the process: no signal handlers, no SystemExit."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with suppress(SystemExit):
            await super().startup(sockets)
        if not self.started:
            raise ServiceFailed("the application's lifespan failed at its start")


@asynccontextmanager
async def serving(app: Callable[..., Any] | str, **uvicorn_options: Any) -> AsyncIterator[Served]:
    """Serve an ASGI application while the body runs; `uvicorn_options` are those of uvicorn.Config.

    Requests see an empty context, as under the uvicorn command. ServiceFailed where the lifespan
    raises or hangs, at its start or at its end; where the body raises, that error alone.
    """
    # With a log_config of its own, uvicorn would keep its records from caplog.
    defaults = {"lifespan": "on", "log_config": None, "ws": "none", "timeout_graceful_shutdown": 5}
    config = uvicorn.Config(app, **{**defaults, **uvicorn_options})
    config.load()
    config.loaded_app = lifespan = _Lifespan(config.loaded_app)
    server = _Server(config)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 0))
        task = asyncio.get_running_loop().create_task(server.serve([listener]), context=Context())
        try:
            await _started(server, task, lifespan)
            yield Served(listener.getsockname()[1])
        finally:
            await _stop(server, task, lifespan)
    if task.cancelled():
        raise ServiceFailed(f"the application did not shut down in {STOP_TIMEOUT} s")
    task.result()
    if lifespan.error is not None:
        raise ServiceFailed(
            f"the lifespan failed at its end: {lifespan.error!r}"
        ) from lifespan.error


async def _started(server: _Server, task: asyncio.Task[None], lifespan: _Lifespan) -> None:
    """Wait until requests are taken; ServiceFailed where the lifespan raises or hangs."""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.001)
            # With lifespan="auto" an application may refuse the lifespan, and is served.
            lifespan.error = None
    except TimeoutError:
        raise ServiceFailed(f"the lifespan did not start in {START_TIMEOUT} s") from None
    except ServiceFailed as failed:
        raise ServiceFailed(f"{failed}: {lifespan.error!r}") from lifespan.error


async def _stop(server: _Server, task: asyncio.Task[None], lifespan: _Lifespan) -> None:
    """End the server and every task of it, and raise nothing; what does not end is cancelled."""
    tasks = {task} if lifespan.task is None else {task, lifespan.task}
    if server.started:
        server.should_exit = True
        await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
    # uvicorn cancels what exceeds timeout_graceful_shutdown, but does not wait for it.
    left = {unfinished for unfinished in tasks | server.server_state.tasks if not unfinished.done()}
    for unfinished in left:
        unfinished.cancel()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.gather(*tasks, *left, return_exceptions=True)
