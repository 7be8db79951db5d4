"""A client without a server sees no lifespan and no stream, and its leaving is seen by nobody."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from packaging.version import Version

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.suites import one_test

WAIT = 10.0  # seconds for what must come
# Whether TestClient gives the parts of a stream as they come.
STREAMS = Version(version("starlette")) >= Version("1.10")


@dataclass
class Shop:
    """An application, and what became of its lifespan and its streams."""

    fails: bool = False
    first: str = "data: 1"
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
            if self.fails:
                raise ConnectionError("no database")
            app.state.greeting = "hello"
            self.seen.append("started")
            yield {"given": "to requests"}
            self.seen.append("stopped")

        self.app = app = FastAPI(lifespan=lifespan)
        self.left = asyncio.Event()
        self.go_on = threading.Event()

        async def events(request: Request) -> AsyncIterator[str]:
            try:
                while not await request.is_disconnected():
                    yield f"{self.first}\n\n"
                    await asyncio.sleep(0.02)
            finally:
                self.seen.append("left")
                self.left.set()

        @app.get("/events")
        async def stream(request: Request) -> StreamingResponse:
            return StreamingResponse(events(request), media_type="text/event-stream")

        @app.get("/two")
        async def two() -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                yield "0\n"
                for _ in range(500 if STREAMS else 20):
                    if self.go_on.is_set():
                        break
                    await asyncio.sleep(0.01)
                self.seen.append(f"told to go on: {self.go_on.is_set()}")
                yield "1\n"

            return StreamingResponse(parts())

        @app.get("/slow")
        async def slow() -> None:
            self.seen.append("begun")
            try:
                await asyncio.sleep(0.3)
                self.seen.append("finished")
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise

        @app.get("/hangs")
        async def hangs() -> None:
            self.seen.append("begun")
            try:
                await asyncio.sleep(7)
                self.seen.append("finished")
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise

        @app.get("/greeting")
        async def greeting(request: Request) -> str:
            return str(request.app.state.greeting)

        @app.get("/state")
        async def state(request: Request) -> str:
            return str(request.state.given)

        @app.get("/fails")
        async def fails() -> None:
            raise ZeroDivisionError

        @app.get("/loop")
        async def loop() -> int:
            return id(asyncio.get_running_loop())


async def test_incorrect_sees_no_event_and_no_lifespan(incorrect: Block, witness: Witness) -> None:
    shop = Shop()
    module = incorrect.run(app=shop.app)
    async with one_test(module, "client") as given:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await module.test_the_first_event_arrives(given["client"])
        with pytest.raises(AttributeError) as missing:
            await given["client"].get("/greeting")
    assert "started" not in shop.seen
    witness.saw(missing.value)
    witness.observed(incorrect="no event within the time limit, and app.state was empty")


async def test_correct_sees_the_first_event_and_the_lifespan(
    correct: Block, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    module = correct.run(app=shop.app)
    before = asyncio.all_tasks()
    async with one_test(module, "client") as given:
        client = given["client"]
        async with asyncio.timeout(WAIT):
            await module.test_the_first_event_arrives(client)
            await shop.left.wait()
        assert shop.seen == ["started", "left"]
        assert client.base_url.host == "127.0.0.1"
        assert (await client.get("/greeting")).json() == "hello"
        assert (await client.get("/state")).json() == "to requests"
        shop.first = "data: 0"
        with pytest.raises(AssertionError):
            await module.test_the_first_event_arrives(client)
        assert (await client.get("/fails")).status_code == 500
        assert (await client.get("/loop")).json() == id(asyncio.get_running_loop())
    assert "ZeroDivisionError" in caplog.text  # the log of uvicorn goes where the test's log goes
    assert client.is_closed
    assert shop.seen == ["started", "left", "left", "stopped"]
    assert asyncio.all_tasks() == before
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient().get(client.base_url)
    witness.observed(
        correct="the first event arrived, the app saw that the client left, and the lifespan"
        " started and stopped once"
    )


async def _given_up(client: httpx.AsyncClient, shop: Shop) -> str:
    """What became of a route when the test has stopped to wait for it."""
    async with asyncio.timeout(WAIT):
        asking = asyncio.create_task(client.get("/slow"))
        while "begun" not in shop.seen:
            await asyncio.sleep(0.01)
        asking.cancel()
        while shop.seen[-1] == "begun":
            await asyncio.sleep(0.01)
    return shop.seen[-1]


async def test_incorrect_cancels_a_route_that_it_gives_up(incorrect: Block) -> None:
    shop = Shop()
    async with one_test(incorrect.run(app=shop.app), "client") as given:
        assert await _given_up(given["client"], shop) == "cancelled"


async def test_correct_lets_it_run_on(correct: Block) -> None:
    shop = Shop()
    async with one_test(correct.run(app=shop.app), "client") as given:
        assert await _given_up(given["client"], shop) == "finished"


async def test_a_lifespan_that_fails_fails_the_fixture(correct: Block) -> None:
    shop = Shop(fails=True)
    async with asyncio.timeout(WAIT):
        with pytest.raises(AssertionError, match="the lifespan failed"):
            async with one_test(correct.run(app=shop.app), "client"):
                pytest.fail("the fixture gave a client")


async def test_the_stop_does_not_wait_for_a_request_that_hangs(correct: Block) -> None:
    shop = Shop()
    async with httpx.AsyncClient(timeout=WAIT) as another:
        async with one_test(correct.run(app=shop.app), "client") as given:
            asking = asyncio.create_task(another.get(f"{given['client'].base_url}/hangs"))
            async with asyncio.timeout(WAIT):
                while "begun" not in shop.seen and not asking.done():
                    await asyncio.sleep(0.01)
            shop.seen.append("left to itself")
        assert shop.seen == ["started", "begun", "left to itself", "cancelled", "stopped"]
        with suppress(httpx.HTTPError):
            assert (await asking).status_code == 500


async def test_the_signals_are_given_back() -> None:
    block = RuleFile.load("testing-clients").block(correct=True)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with one_test(block.run(app=Shop().app), "client"):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_the_context_of_the_lifespan_fills_the_app_but_not_the_requests() -> None:
    shop = Shop()
    transport = httpx.ASGITransport(shop.app)
    async with (
        shop.app.router.lifespan_context(shop.app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert (await client.get("/greeting")).json() == "hello"
        with pytest.raises(AttributeError, match="'State' object has no attribute 'given'"):
            await client.get("/state")
    assert shop.seen == ["started", "stopped"]


async def test_the_transport_raises_the_error_of_a_route_or_answers_500() -> None:
    shop = Shop()
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/fails")
    quiet = httpx.ASGITransport(shop.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=quiet, base_url="http://test") as client:
        assert (await client.get("/fails")).status_code == 500


@pytest.mark.filterwarnings("ignore:Using `httpx`")
@pytest.mark.filterwarnings("ignore:The anyio.abc.BlockingPortal alias")
async def test_what_testclient_hides() -> None:
    from fastapi.testclient import TestClient  # some releases warn at import

    shop = Shop()
    own = id(asyncio.get_running_loop())

    def without_with() -> None:
        client = TestClient(shop.app)
        with pytest.raises(AttributeError, match="greeting"):
            client.get("/greeting")
        with pytest.raises(ZeroDivisionError):
            client.get("/fails")
        quiet = TestClient(shop.app, raise_server_exceptions=False)
        assert quiet.get("/fails").status_code == 500

    await asyncio.to_thread(without_with)

    def with_with() -> int:
        with TestClient(shop.app) as client:
            assert client.get("/greeting").json() == "hello"
            assert client.get("/state").json() == "to requests"
            with client.stream("GET", "/two") as response:
                lines = response.iter_lines()
                assert next(lines) == "0"
                shop.go_on.set()
                assert next(lines) == "1"
            return int(client.get("/loop").json())

    assert await asyncio.to_thread(with_with) != own
    assert shop.seen == ["started", f"told to go on: {STREAMS}", "stopped"]
