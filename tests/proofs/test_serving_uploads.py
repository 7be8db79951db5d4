"""How much of a body is received, and how much of it is in memory, with and without a limit."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Message, Receive, Scope, Send

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Nginx, serving

# Starlette 0.49 leaves the file of a form that it could not read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MB = 1_000_000
LIMIT = 10 * MB
IGNORED = version("fastapi") == "0.121.0"  # FastAPI(max_body_size=...) has no effect
FORM = {"Content-Type": "multipart/form-data; boundary=cut"}
HEAD = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
TAIL = b"\r\n--cut--\r\n"


async def _form(size: int) -> AsyncIterator[bytes]:
    """A form with a file, so many bytes in all."""
    yield HEAD
    left = size - len(HEAD) - len(TAIL)
    while left > 0:
        yield bytes(min(left, 50_000))
        left -= 50_000
    yield TAIL


@dataclass
class Site:
    """An application, how much it has received of a body, and what it has stored."""

    app: FastAPI
    client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=60))
    received: int = 0
    stored: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.received = 0

        async def count() -> Message:
            message = await receive()
            self.received += len(message.get("body", b""))
            return message

        await self.app(scope, count, send)

    async def send(self, size: int, path: str = "/files", **headers: str) -> httpx.Response:
        return await self.client.post(path, content=_form(size), headers={**FORM, **headers})


async def _refuse() -> None:
    raise HTTPException(401)


@asynccontextmanager
async def _site(block: Block, app: FastAPI | None = None) -> AsyncIterator[Site]:
    """Serve the app of a block, or another one."""

    async def store(data: bytes | AsyncIterator[bytes]) -> None:
        if isinstance(data, bytes):
            site.stored += len(data)
            return
        async for chunk in data:
            site.stored += len(chunk)

    site = Site(app or block.run(store=store).app)

    @site.app.post("/closed", dependencies=[Depends(_refuse)])
    async def closed(file: UploadFile) -> None:
        """Nobody gets here."""

    async with serving(site) as served, site.client:
        site.client.base_url = httpx.URL(served.url)
        yield site
    gc.collect()  # see pytestmark


@pytest.fixture
def block() -> Block:
    """The Correct block, for tests of what stands around it."""
    return RuleFile.load("serving-uploads").block(correct=True)


async def _peak(site: Site, size: int) -> int:
    """The memory that an upload takes, in bytes."""
    tracemalloc.start()
    try:
        answer = await site.send(size)
        assert (answer.status_code, answer.json()) == (200, size - len(HEAD) - len(TAIL))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_incorrect_receives_all_and_holds_all(incorrect: Block, witness: Witness) -> None:
    async with _site(incorrect) as site:
        assert (await site.send(16 * MB)).status_code == 413
        assert site.received == 16 * MB
        assert (await site.send(16 * MB, "/closed")).status_code == 401
        assert site.received == 16 * MB
        assert await _peak(site, 9 * MB) > 8.9 * MB
    witness.observed(incorrect="16 MB received before 413 and before 401; 9 MB in memory")


async def test_correct_receives_no_more_than_the_limit_and_holds_a_chunk(
    correct: Block, witness: Witness
) -> None:
    async with _site(correct) as site:
        assert await _peak(site, 9 * MB) < 4 * MB
        assert site.stored == 9 * MB - len(HEAD) - len(TAIL)
        for path in ("/files", "/closed"):
            assert (await site.send(16 * MB, path)).status_code == 413
            assert LIMIT < site.received < LIMIT + 0.5 * MB  # what one read brings
        assert (await site.send(LIMIT)).status_code == 200
        assert (await site.send(LIMIT + 1)).status_code == 413
    witness.observed(correct="413 at 10.5 MB at the latest; less than 4 MB of 9 in memory")


@pytest.mark.parametrize(
    ("outside", "reads", "status", "received"),
    [
        (False, False, 413, LIMIT),
        (False, True, 413, 16 * MB),  # the middleware has read all of it before
        (True, False, 400, LIMIT),
        (True, True, 500, LIMIT),
    ],
)
async def test_the_limit_is_to_be_the_innermost_middleware(
    block: Block, outside: bool, reads: bool, status: int, received: int
) -> None:
    async def middleware(request: Request, call_next: Any) -> Any:
        if reads:
            await request.body()
        return await call_next(request)

    async def store(data: AsyncIterator[bytes]) -> None:
        """Nobody gets here."""

    app = block.run(store=store).app
    layers = app.user_middleware  # the first is the outermost
    layers.insert(
        len(layers) if outside else 0, Middleware(BaseHTTPMiddleware, dispatch=middleware)
    )
    async with _site(block, app) as site:
        assert (await _status(site)) == status
        assert received <= site.received < received + 0.5 * MB


async def _status(site: Site) -> int:
    """How a form of 16 MB is answered, whose end the client may not be able to send."""
    begun = asyncio.get_running_loop().create_future()
    app = site.app

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.set_result(message["status"])
            await send(message)

        await app(scope, receive, watch)

    site.app = watched  # type: ignore[assignment]
    with suppress(httpx.NetworkError):
        await site.send(16 * MB)
    return int(await asyncio.wait_for(begun, 10))


async def test_max_body_size_does_the_same_and_looks_at_the_length_first(block: Block) -> None:
    async with _site(block, FastAPI(max_body_size=LIMIT)) as site:
        answer = await site.send(16 * MB, "/closed")
        if IGNORED:
            assert (answer.status_code, site.received) == (401, 16 * MB)
            return
        assert (answer.status_code, site.received < LIMIT + 0.5 * MB) == (413, True)
        declared = await site.send(LIMIT + 1, "/closed", **{"Content-Length": str(LIMIT + 1)})
        assert (declared.status_code, site.received) == (413, 0)


@pytest.mark.skipif(IGNORED, reason="there a route has no max_body_size")
async def test_the_limit_of_a_route_replaces_that_of_the_app(block: Block) -> None:
    async with _site(block, FastAPI(max_body_size=LIMIT)) as site:
        for name, limit in (("more", 2 * LIMIT), ("less", MB)):

            @site.app.post(f"/{name}", max_body_size=limit)
            async def route(file: UploadFile) -> None:
                pass

        statuses = [
            (await site.send(size, path)).status_code
            for path, size in (("/more", LIMIT + MB), ("/less", MB), ("/less", 2 * MB))
        ]
    assert statuses == [200, 200, 413]


async def test_a_route_that_reads_the_body_itself_has_its_dependencies_first(block: Block) -> None:
    async with _site(block) as site:

        async def read(request: Request) -> int:
            return sum([len(chunk) async for chunk in request.stream()])

        site.app.post("/closed-stream", dependencies=[Depends(_refuse)])(read)
        site.app.post("/stream")(read)
        assert (await site.send(MB, "/closed-stream")).status_code == 401
        assert site.received == 0
        assert (await site.send(MB, "/stream")).json() == MB
        assert (await site.send(16 * MB, "/stream")).status_code == 413


async def test_nginx_has_a_limit_of_its_own(
    block: Block, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    async with _site(block) as site:
        to = site.client.base_url.port
        for more, status in (([], 413), (["client_max_body_size 10m"], 200)):
            with nginx(to, location=["proxy_pass http://app", *more]) as server:
                site.client.base_url = httpx.URL(server.url)
                answer = await site.send(2 * MB, **{"Content-Length": str(2 * MB)})
                assert answer.status_code == status
                if status == 413:
                    assert answer.headers["Content-Type"] == "text/html"
                    witness.saw(answer.text, server.log)


async def test_a_field_that_is_no_file_may_have_a_megabyte(block: Block, witness: Witness) -> None:
    async with _site(block) as site:

        @site.app.post("/field")
        async def field(request: Request) -> int:
            return len(str((await request.form())["file"]))

        for size, status in ((1024 * 1024, 200), (1024 * 1024 + 1, 400)):
            form = HEAD.replace(b'; filename="a"', b"") + b"x" * size + TAIL
            answer = await site.client.post("/field", content=form, headers=FORM)
            assert answer.status_code == status
        witness.saw(answer.text)


async def test_a_file_is_open_for_background_tasks_and_closed_after_them(
    block: Block, witness: Witness
) -> None:
    read: list[asyncio.Future[bytes]] = []
    async with _site(block) as site:

        @site.app.post("/later")
        async def later(file: UploadFile, tasks: BackgroundTasks) -> None:
            async def read_after(closed: bool) -> bytes:
                while file.file.closed is not closed:
                    await asyncio.sleep(0.01)
                return await file.read()

            async def background() -> None:
                read[0].set_result(await read_after(False))

            read.append(asyncio.get_running_loop().create_future())
            read.append(asyncio.create_task(read_after(True)))
            tasks.add_task(background)

        await site.send(1000, "/later")
        assert len(await read[0]) == 1000 - len(HEAD) - len(TAIL)
        with pytest.raises(ValueError, match="closed file") as closed:
            await read[1]
        witness.saw(closed.value)


async def test_a_file_of_more_than_a_megabyte_is_in_the_folder_for_temporary_files(
    block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    statuses = []
    async with _site(block) as site:
        for folder in (tmp_path, tmp_path / "missing"):
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            for size in (1024 * 1024, 1024 * 1024 + 2 * len(HEAD)):
                statuses.append((await site.send(size)).status_code)
    assert statuses == [200, 200, 200, 400]
