"""references/fastapi-skill-differences.md: what it says of both sides is so."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import fastapi
import httpx
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from tests.proofs.harness import RuleFile
from tests.references.harness import LIMIT, PATHS, rows_of, turns, until
from tests.services import Database, serving

NAME = "fastapi-skill-differences"
SKILL = Path(fastapi.__file__).parent / ".agents" / "skills" / "fastapi"
newest = pytest.mark.skipif(version("fastapi") == "0.121.0", reason="it has neither")


@newest
def test_the_skill_of_the_installed_release_says_what_the_rows_say() -> None:
    assert f"FastAPI {version('fastapi').rpartition('.')[0]}" in PATHS[NAME].read_text("utf-8")
    text = "\n".join(path.read_text("utf-8") for path in sorted(SKILL.rglob("*.md")))
    said = {
        "session dependency": r'default scope `"request"`[^#]*def get_db\(\)',
        "limit on sessions": r"Use `max_concurrency` when .* database connection pool",
        "streams": r"use `yield`|`yield` items from the endpoint",
        "`def` or `async def`": r"In case of doubt, or by default, use regular `def`",
        "blocking calls": r"Prefer it over AnyIO or asyncio",
        "tables": r"Prefer it over SQLAlchemy",
        "start": r"fastapi run",
    }
    assert [row[0] for row in rows_of(NAME)] == list(said)
    agreed = [
        r"create a new type alias",
        r"shared dependencies to the router itself",
        r"Avoid creating class dependencies",
        r"Do not use `ORJSONResponse`",
        r"Make sure blocking code is not run inside of `async`",
        r"Enforcement counts received bytes",
        *(r"RootModel", r"OpenTelemetry", r"app\.frontend\(\)", r"FastAPI Cloud", r"\bty\b"),
    ]
    for pattern in (*said.values(), *agreed):
        assert re.search(pattern, text), pattern


async def _client(stack: AsyncExitStack, app: FastAPI) -> httpx.AsyncClient:
    served = await stack.enter_async_context(serving(app))
    return await stack.enter_async_context(httpx.AsyncClient(base_url=served.url, timeout=LIMIT))


@newest
async def test_a_call_over_max_concurrency_waits_without_a_limit_and_one_over_the_pool_does_not(
    database: Database,
) -> None:
    engine = create_async_engine(database.url(), pool_size=1, max_overflow=0, pool_timeout=0.2)
    begun, go = asyncio.Event(), asyncio.Event()

    async def get_resource() -> AsyncIterator[int]:
        yield 1

    limited: Any = {"max_concurrency": 1}
    resource = Depends(get_resource, **limited)
    app = FastAPI()

    @app.get("/hold")
    async def hold(_: Any = resource) -> None:
        begun.set()
        await go.wait()

    @app.get("/next")
    async def follow(_: Any = resource) -> None: ...

    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        client = await _client(stack, app)
        held = asyncio.create_task(client.get("/hold"))
        await begun.wait()
        waiting = asyncio.create_task(client.get("/next"))
        async with engine.connect():
            for _ in range(3):
                with pytest.raises(PoolTimeout):
                    await engine.connect()
        assert not waiting.done()
        go.set()
        assert [(await each).status_code for each in (held, waiting)] == [200, 200]


@newest
async def test_a_function_scoped_dependency_is_closed_before_the_first_item() -> None:
    events: list[str] = []

    async def get_session() -> AsyncIterator[None]:
        yield
        events.append("closed")

    function = Annotated[None, Depends(get_session, scope="function")]
    request = Annotated[None, Depends(get_session)]
    app = FastAPI()

    async def items() -> AsyncIterator[int]:
        for number in (1, 2):
            events.append(f"item {number}")
            yield number

    @app.get("/function")
    async def in_function(session: function) -> AsyncIterator[int]:
        async for item in items():
            yield item

    @app.get("/request")
    async def in_request(session: request) -> AsyncIterator[int]:
        async for item in items():
            yield item

    seen = {}
    async with AsyncExitStack() as stack:
        client = await _client(stack, app)
        for path in ("/function", "/request"):
            events.clear()
            assert (await client.get(path)).text.split() == ["1", "2"]
            await until(lambda: "closed" in events)
            seen[path] = list(events)
    assert seen == {
        "/function": ["closed", "item 1", "item 2"],
        "/request": ["item 1", "item 2", "closed"],
    }


async def test_anyio_runs_on_the_threads_of_def_routes_and_to_thread_does_not() -> None:
    app = FastAPI()

    @app.get("/")
    def read() -> int:
        return 1

    async with AsyncExitStack() as stack:
        client = await _client(stack, app)
        limiter = anyio.to_thread.current_default_thread_limiter()
        holders = [object() for _ in range(int(limiter.total_tokens))]
        for holder in holders:
            limiter.acquire_on_behalf_of_nowait(holder)
        waiting = asyncio.create_task(client.get("/"))
        also = asyncio.create_task(anyio.to_thread.run_sync(lambda: 2))  # as Asyncer does
        assert await asyncio.to_thread(lambda: 3) == 3
        await asyncio.sleep(0.2)
        await turns()
        assert not waiting.done()
        assert not also.done()
        for holder in holders:
            limiter.release_on_behalf_of(holder)
        assert (await waiting).json() == 1
        assert await also == 2


def test_the_app_with_cors_around_it_is_no_fastapi_object() -> None:
    module = RuleFile.load("fastapi-cors").block(correct=True).run()
    found = [name for name in ("app", "api") if isinstance(getattr(module, name), FastAPI)]
    assert found == ["api"]
