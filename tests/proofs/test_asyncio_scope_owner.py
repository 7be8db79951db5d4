"""A scope that another task leaves: the close fails, and the task that entered it is cancelled."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.suites import run_suite
from tests.services import ServiceFailed, serving

ACROSS = "Attempted to exit cancel scope in a different task than it was entered in"
OUT_OF_ORDER = (
    "Attempted to exit a cancel scope that isn't the current tasks's current cancel scope"
)


class Client:
    """Reads in a task of its own, as clients of MCP do."""

    def __init__(self) -> None:
        self.broken = anyio.Event()

    async def read(self) -> None:
        await self.broken.wait()
        raise ConnectionResetError("the peer is gone")


class Peer:
    """Takes connections, and counts those that were closed as they should be."""

    def __init__(self) -> None:
        self.farewells = 0
        self.ready = anyio.Event()
        self.ready.set()

    @asynccontextmanager
    async def connect(self, user: str) -> AsyncIterator[Client]:
        await self.ready.wait()
        if user == "nobody":
            raise ConnectionRefusedError("no such user")
        client = Client()
        async with anyio.create_task_group() as reader:
            reader.start_soon(client.read)
            yield client
            reader.cancel_scope.cancel()
        self.farewells += 1


@pytest.fixture
def peer() -> Peer:
    return Peer()


@asynccontextmanager
async def _maker(block: Block, peer: Peer) -> AsyncIterator[Callable[[], Any]]:
    """Makes objects of the block; no task that the block started is left in the end."""
    before = asyncio.all_tasks()
    module = block.run(connect=peer.connect, Client=Client)
    async with asyncio.timeout(10):
        if not block.correct:
            yield module.UserClient
        else:
            async with anyio.create_task_group() as owners:
                yield lambda: module.UserClient(owners)
    assert asyncio.all_tasks() == before


async def _close(client: Any) -> None:
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing
    await asyncio.sleep(0.05)


class _Worker:
    """A task that opens a client, and then does something else until `go_on`."""

    def __init__(self, client: Any) -> None:
        self.opened, self.go_on = asyncio.Event(), asyncio.Event()
        self.got: BaseException | None = None
        self.connection: Client
        self.task = asyncio.create_task(self._work(client))

    @classmethod
    async def begun(cls, client: Any) -> Self:
        worker = cls(client)
        await worker.opened.wait()
        return worker

    async def _work(self, client: Any) -> str:
        self.connection = await client.open("ada")
        self.opened.set()
        try:
            await self.go_on.wait()
        except BaseException as error:
            self.got = error
            raise
        return "done"

    async def ends(self) -> str | None:
        """What the task returns, or None where it was cancelled."""
        self.go_on.set()
        await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.result()


async def test_incorrect_fails_to_close_and_cancels_the_task_that_opened(
    incorrect: Block, peer: Peer, witness: Witness
) -> None:
    async with _maker(incorrect, peer) as make:
        client = make()
        worker = await _Worker.begun(client)
        with pytest.raises(RuntimeError, match=ACROSS) as raised:
            await asyncio.create_task(_close(client))
        assert await worker.ends() is None
    assert peer.farewells == 0
    assert worker.got
    witness.saw(raised.value, worker.got)
    witness.observed(
        incorrect="closed by another task, close() failed, the peer was not told, and the task that"
        " had opened was cancelled in its own work, as it was when the connection broke"
    )


async def test_correct_closes_and_lets_the_task_that_opened_go_on(
    correct: Block, peer: Peer, witness: Witness
) -> None:
    async with _maker(correct, peer) as make:
        client = make()
        worker = await _Worker.begun(client)
        await asyncio.create_task(_close(client))
        assert peer.farewells == 1
        assert await worker.ends() == "done"
    witness.observed(correct="closed by another task, or broken: the opening task did its work")


async def test_incorrect_is_cancelled_when_the_connection_breaks(
    incorrect: Block, peer: Peer
) -> None:
    async with _maker(incorrect, peer) as make:
        worker = await _Worker.begun(make())
        worker.connection.broken.set()
        await asyncio.wait([worker.task])
        assert worker.task.cancelled()


async def test_correct_logs_a_broken_connection_and_keeps_the_others(
    correct: Block, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async with _maker(correct, peer) as make:
        other = make()
        await other.open("bob")
        worker = await _Worker.begun(make())
        worker.connection.broken.set()
        await asyncio.sleep(0.05)
        assert await worker.ends() == "done"
        assert [each.getMessage() for each in caplog.records] == ["client of ada"]
        assert "ConnectionResetError: the peer is gone" in caplog.text
        await _close(other)
        assert peer.farewells == 1


async def test_correct_raises_in_open_what_fails_there(
    correct: Block, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async with _maker(correct, peer) as make:
        other = make()
        await other.open("bob")
        with pytest.raises(ConnectionRefusedError, match="no such user"):
            await make().open("nobody")
        assert not caplog.records
        await asyncio.create_task(_close(other))
        assert peer.farewells == 1


async def test_correct_leaves_no_task_behind_an_open_that_was_cancelled(
    correct: Block, peer: Peer
) -> None:
    async with _maker(correct, peer) as make:
        other = make()
        await other.open("bob")
        peer.ready = anyio.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await make().open("ada")
        await asyncio.create_task(_close(other))


async def test_correct_ends_with_its_group(
    correct: Block, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    module = correct.run(connect=peer.connect, Client=Client)
    before = asyncio.all_tasks()
    async with asyncio.timeout(10), anyio.create_task_group() as owners:
        await module.UserClient(owners).open("ada")
        owners.cancel_scope.cancel()
    assert asyncio.all_tasks() == before
    assert not caplog.records
    assert peer.farewells == 0


async def _in_order(block: Block, peer: Peer) -> None:
    """Open two clients in one task, and close first the one that was opened first."""
    async with _maker(block, peer) as make:
        first, second = make(), make()

        async def both() -> None:
            await first.open("ada")
            await second.open("bob")
            await _close(first)
            await _close(second)

        await asyncio.create_task(both())


async def test_incorrect_cannot_close_in_the_order_of_opening(
    incorrect: Block, peer: Peer, witness: Witness
) -> None:
    with pytest.raises(RuntimeError, match=OUT_OF_ORDER) as raised:
        await _in_order(incorrect, peer)
    witness.saw(raised.value)


async def test_correct_closes_in_any_order(correct: Block, peer: Peer) -> None:
    await _in_order(correct, peer)
    assert peer.farewells == 2


async def _requests(block: Block, peer: Peer) -> list[int]:
    """The statuses of a request that opens, and of one that closes."""
    module = block.run(connect=peer.connect, Client=Client)
    clients: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with anyio.create_task_group() as owners:
            yield {"owners": owners}

    app = FastAPI(lifespan=lifespan)

    @app.post("/clients/{user}")
    async def open_client(user: str, request: Request) -> None:
        needed = [request.state.owners] if block.correct else []
        clients[user] = module.UserClient(*needed)
        await clients[user].open(user)

    @app.delete("/clients/{user}")
    async def close_client(user: str) -> None:
        await _close(clients[user])

    async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as http:
        answers = [await http.post("/clients/ada"), await http.delete("/clients/ada")]
    return [answer.status_code for answer in answers]


async def test_incorrect_fails_across_requests(incorrect: Block, peer: Peer) -> None:
    assert await _requests(incorrect, peer) == [200, 500]
    assert peer.farewells == 0


async def test_correct_works_across_requests(correct: Block, peer: Peer) -> None:
    assert await _requests(correct, peer) == [200, 200]
    assert peer.farewells == 1


async def test_a_broken_connection_of_the_lifespan_ends_it_and_requests_go_on(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    open_now: list[Client] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with peer.connect("ada") as client:
            open_now.append(client)
            try:
                yield
            finally:
                open_now.clear()

    app = FastAPI(lifespan=lifespan)

    @app.get("/open")
    async def count() -> int:
        return len(open_now)

    with pytest.raises(ServiceFailed, match="unhandled errors in a TaskGroup"):
        async with serving(app) as served, httpx.AsyncClient(base_url=served.url) as http:
            assert (await http.get("/open")).json() == 1
            open_now[0].broken.set()
            await asyncio.sleep(0.05)
            assert (await http.get("/open")).json() == 0


async def _outcome(closing: Callable[[AsyncExitStack], Any], peer: Peer) -> BaseException | None:
    """The error of a task that opens a client, and closes it in this way."""

    async def both() -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(peer.connect("ada"))
        await closing(stack)

    task = asyncio.create_task(both())
    await asyncio.wait([task])
    return asyncio.CancelledError() if task.cancelled() else task.exception()


@pytest.mark.parametrize(
    ("closing", "across"),
    [
        (lambda stack: stack.aclose(), False),
        (lambda stack: asyncio.create_task(stack.aclose()), True),
        (lambda stack: asyncio.gather(stack.aclose()), True),
        (lambda stack: asyncio.wait_for(stack.aclose(), 5), sys.version_info < (3, 12)),
    ],
    ids=["plain", "create_task", "gather", "wait_for"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_runs_the_close_in_another_task(closing: Any, across: bool, peer: Peer) -> None:
    error = await _outcome(closing, peer)
    assert isinstance(error, RuntimeError | asyncio.CancelledError) if across else error is None
    assert peer.farewells == (0 if across else 1)


SUITE = """
import anyio
import pytest

{mark}

@pytest.fixture
async def client():
    async with anyio.create_task_group() as reader:
        reader.start_soon(anyio.sleep_forever)
        yield reader
        reader.cancel_scope.cancel()


async def test_it(client):
    await anyio.sleep(0)
"""


def test_a_fixture_of_pytest_asyncio_ends_in_another_task(tmp_path: Path) -> None:
    suite = {"test_it.py": SUITE.format(mark="pytestmark = pytest.mark.asyncio")}
    ran = run_suite(tmp_path, suite, "-o", "asyncio_mode=auto")
    assert ran.tests == {"test_it": "ERROR"}
    assert "1 passed, 1 error" in ran.output
    assert ACROSS in ran.output


def test_a_fixture_of_anyios_plugin_does_not(tmp_path: Path) -> None:
    mark = "pytestmark = pytest.mark.anyio\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'"
    ran = run_suite(tmp_path, {"test_it.py": SUITE.format(mark=mark)}, plugin="anyio.pytest_plugin")
    assert ran.tests == {"test_it": "PASSED"}


async def test_a_generator_left_by_break_cancels_its_consumer(peer: Peer) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with peer.connect("ada"):
            yield 1
            yield 2

    async def consume() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(10)

    consumer = asyncio.create_task(consume())
    await asyncio.wait([consumer])
    assert consumer.cancelled()


@pytest.mark.skipif(find_spec("mcp") is None, reason="the oldest releases stand without mcp")
async def test_a_client_of_mcp_holds_such_a_scope_and_can_be_owned() -> None:
    from mcp.client.client import Client as McpClient
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("shop")

    @server.tool()
    def price(item: int) -> int:
        return item

    async def ask(client: McpClient) -> bool:
        return (await client.call_tool("price", {"item": 7})).is_error or False

    stack = AsyncExitStack()
    client = McpClient(server)
    await asyncio.create_task(stack.enter_async_context(client))
    with pytest.raises(RuntimeError, match=ACROSS):
        await asyncio.create_task(stack.aclose())
    block = RuleFile.load("asyncio-scope-owner").block(correct=True)
    module = block.run(connect=lambda _: McpClient(server), Client=McpClient)
    async with asyncio.timeout(10), anyio.create_task_group() as owners:
        owned = module.UserClient(owners)
        client = await asyncio.create_task(owned.open("ada"))
        assert not await asyncio.create_task(ask(client))
        await asyncio.create_task(_close(owned))
        with pytest.raises(RuntimeError, match="must be used within"):
            await ask(client)
