"""What a stream stores after its loop is lost where it breaks off; what it stores in finally is not."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.background import BackgroundTask

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database, serving

PATIENCE = 5.0  # seconds, for what takes milliseconds
TELLS = version("uvicorn") != "0.30.0"
"""uvicorn tells that a client has left."""


class Base(DeclarativeBase):
    pass


class Answer(Base):
    __tablename__ = "answers"
    question_id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    whole: Mapped[bool]


WHOLE, FAILS, WAITS, FLOODS = range(4)


@dataclass
class _Source:
    """Makes tokens: three; or two, and fails; or two, and waits for `go_on`; or without an end."""

    ended: set[int] = field(default_factory=set)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, question_id: int) -> AsyncIterator[str]:
        try:
            yield "one "
            yield "two "
            if question_id == FAILS:
                raise OSError("the model is gone")
            if question_id == WAITS:
                await self.go_on.wait()
            while question_id == FLOODS and not self.go_on.is_set():
                yield "x" * 65_536
                await asyncio.sleep(0)
            yield "three"
        finally:
            self.ended.add(question_id)


async def _rows(database: Database, number: int) -> dict[int, tuple[str, bool]]:
    """The answers, a moment after there are so many."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while await database.fetchval("SELECT count(*) FROM answers") < number:
                await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    rows = await database.fetch("SELECT * FROM answers")
    return {row["question_id"]: (row["text"], row["whole"]) for row in rows}


async def _ask(
    client: httpx.AsyncClient, question_id: int, leave: Callable[[], None] | None = None
) -> str:
    """The text of an answer; of the first two tokens alone, if `leave` is to be called then."""
    got = ""
    async with client.stream("POST", f"/questions/{question_id}/answer") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain;")
        async for text in response.aiter_text():
            got += text
            if leave and len(got) >= len("one two "):
                leave()
                break
    return got


@dataclass
class _Answered:
    rows: dict[int, tuple[str, bool]]
    held: list[int]
    error: Exception


async def _answered(block: Block, database: Database, number: int) -> _Answered:
    """An answer that is read, one whose source fails, and one whose client leaves."""
    async with engine_with(Base, database.url()) as engine:
        source = _Source()
        module = _module(block, engine, source)
        async with (
            asyncio.timeout(4 * PATIENCE),
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url) as client,
        ):
            assert await _ask(client, WHOLE) == "one two three"
            with pytest.raises(httpx.RemoteProtocolError) as broken:
                await _ask(client, FAILS)
            held: list[int] = []
            pool: Any = engine.pool
            await _ask(client, WAITS, leave=lambda: held.append(pool.checkedout()))
            if not TELLS:
                source.go_on.set()
            return _Answered(await _rows(database, number), held, broken.value)


def _module(block: Block, engine: AsyncEngine, source: _Source) -> Any:
    factory = async_sessionmaker(engine)
    return block.run(SessionFactory=factory, Answer=Answer, generate=source.generate)


LEFT = ("one two ", False) if TELLS else ("one two three", True)


async def test_incorrect_stores_nothing_of_a_stream_that_breaks_off(
    incorrect: Block, database: Database, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    answered = await _answered(incorrect, database, 1 if TELLS else 2)
    lost = {WHOLE: ("one two three", True)}
    assert answered.rows == (lost if TELLS else lost | {WAITS: LEFT})
    witness.saw(answered.error)
    witness.observed(
        incorrect="of an answer whose source failed after 2 tokens nothing was stored"
        + (", and nothing of one whose client left after 2" if TELLS else "")
    )


async def test_correct_stores_what_was_made_and_holds_no_connection_meanwhile(
    correct: Block, database: Database, witness: Witness
) -> None:
    answered = await _answered(correct, database, 3)
    assert answered.rows == {
        WHOLE: ("one two three", True),
        FAILS: ("one two ", False),
        WAITS: LEFT,
    }
    assert answered.held == [0]
    witness.observed(
        correct="the 2 tokens of the answer whose source failed were stored"
        + (", and those of the one whose client left" if TELLS else "")
    )


@contextmanager
def _without_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _left_unread(app: FastAPI, path: str, method: str = "GET") -> None:
    """Ask for a stream, read nothing until it waits at a yield, and leave."""
    async with (
        asyncio.timeout(2 * PATIENCE),
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        async with client.stream(method, path):
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.2)


@pytest.mark.skipif(not find_spec("fastapi.sse"), reason="this FastAPI has no such response")
async def test_a_route_of_server_sent_events_leaves_finally_to_the_garbage_collector(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")  # a log record would keep the generator
    sse: Any = importlib.import_module("fastapi.sse")
    app = FastAPI()
    source = _Source()

    @app.get("/answer", response_class=sse.EventSourceResponse)
    async def stream() -> AsyncIterator[str]:
        async for token in source.generate(FLOODS):
            yield token

    with _without_garbage_collector():
        await _left_unread(app, "/answer")
        assert not source.ended
    gc.collect()
    async with asyncio.timeout(PATIENCE):
        while not source.ended:
            await asyncio.sleep(0.01)


@pytest.mark.skipif(not TELLS, reason="this uvicorn does not tell that a client has left")
async def test_a_client_that_leaves_while_it_reads_nothing_leaves_its_answer_too(
    correct: Block, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = _module(correct, engine, source := _Source())
        with _without_garbage_collector():
            await _left_unread(module.app, f"/questions/{FLOODS}/answer", "POST")
            rows = await _rows(database, 1)
        source.go_on.set()
    assert not rows[FLOODS][1]
    assert rows[FLOODS][0].startswith("one two xxx")


async def test_a_middleware_with_call_next_changes_nothing(
    correct: Block, database: Database
) -> None:
    async with engine_with(Base, database.url()) as engine:
        module = _module(correct, engine, source := _Source())

        @module.app.middleware("http")  # type: ignore[untyped-decorator]
        async def through(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        async with (
            asyncio.timeout(2 * PATIENCE),
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url) as client,
        ):
            await _ask(client, WAITS, leave=lambda: None)
            if not TELLS:
                source.go_on.set()
            assert await _rows(database, 1) == {WAITS: LEFT}
            with suppress(httpx.RemoteProtocolError):
                await _ask(client, FAILS)
            assert (await _rows(database, 2))[FAILS] == ("one two ", False)


async def test_a_store_that_hangs_ends_after_10_seconds(
    correct: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    fail_after = anyio.fail_after

    def sooner(seconds: float, **options: Any) -> Any:
        given.append(seconds)
        return fail_after(seconds / 200, **options)

    class Hanging:
        async def __aenter__(self) -> None:
            await asyncio.sleep(PATIENCE)

        async def __aexit__(self, *_: object) -> None:
            pass

    class Factory:
        begin = Hanging

    monkeypatch.setattr(anyio, "fail_after", sooner)
    module = correct.run(SessionFactory=Factory, Answer=Answer, generate=_Source().generate)
    with pytest.raises(TimeoutError):
        assert [token async for token in module.answer(WHOLE)]
    assert given == [10]


async def test_without_the_shield_the_answer_of_a_client_that_leaves_is_lost(
    database: Database,
) -> None:
    block = RuleFile.load("serving-streams").block(correct=True)
    assert ", shield=True" in block.code
    bare = replace(block, code=block.code.replace(", shield=True", ""))
    rows = (await _answered(bare, database, 2 if TELLS else 3)).rows
    assert rows.get(WAITS) == (None if TELLS else LEFT)
    assert rows[FAILS] == ("one two ", False)


async def test_a_yield_in_finally_is_an_error(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    async def tokens() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            yield "[DONE]"

    generator: Any = tokens()
    assert await anext(generator) == "one"
    with pytest.raises(RuntimeError, match="ignored GeneratorExit") as raised:
        await generator.aclose()
    witness.saw(raised.value)


async def test_a_background_task_does_not_run_after_a_source_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[int] = []
    app = FastAPI()

    @app.post("/questions/{question_id}/answer")
    async def stream(question_id: int) -> StreamingResponse:
        kept = BackgroundTask(ran.append, question_id)
        tokens = _Source().generate(question_id)
        return StreamingResponse(tokens, media_type="text/plain", background=kept)

    async with (
        asyncio.timeout(2 * PATIENCE),
        serving(app) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        await _ask(client, WHOLE)
        with pytest.raises(httpx.RemoteProtocolError):
            await _ask(client, FAILS)
    gc.collect()
    assert ran == [WHOLE]
