"""Connections, look-ups and limits belong to the client: a client per request has none of them."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.resolver import ThreadedResolver
from anyio import to_thread
from fastapi import FastAPI, Request, Response

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import serving

SEQUENTIAL, AT_ONCE, PER_HOST = 20, 30, 10
# httpx2 continues httpx, and is not in the oldest environment.
CLIENTS = [import_module(name) for name in ("httpx", "httpx2") if find_spec(name)]


@dataclass
class Stock:
    """The other service: what it sees of its clients."""

    connections: set[tuple[str, int]] = field(default_factory=set)
    users: list[str | None] = field(default_factory=list)  # by the cookie of each request
    inside: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    app: FastAPI = field(default_factory=FastAPI)

    def __post_init__(self) -> None:
        @self.app.get("/stock/{sku}")
        async def stock(sku: int, request: Request, response: Response) -> int:
            assert request.client
            self.users.append(request.cookies.get("user"))
            response.set_cookie("user", str(sku))
            self.connections.add((request.client.host, request.client.port))
            self.inside += 1
            await self.gate.wait()
            return sku

    async def settle(self, requests: int) -> None:
        """Wait until this many requests are inside; at most 5 seconds."""
        async with asyncio.timeout(5):
            while self.inside < requests:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _shop(block: Block) -> AsyncIterator[tuple[Stock, Callable[[int], Awaitable[int]]]]:
    """The other service, and how to ask the block's application for a stock."""
    stock = Stock()
    async with serving(stock.app) as behind:
        module = block.run(stock_url=f"http://localhost:{behind.port}")
        async with (
            serving(module.app) as served,
            httpx.AsyncClient(base_url=served.url, timeout=10, verify=False) as client,
        ):

            async def ask(sku: int) -> int:
                return int((await client.get(f"/stock/{sku}")).raise_for_status().json())

            try:
                yield stock, ask
            finally:
                stock.gate.set()


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that aiohttp has looked up."""
    hosts: list[str] = []
    resolve = ThreadedResolver.resolve

    async def count(self: ThreadedResolver, host: str, *args: Any, **kwargs: Any) -> Any:
        hosts.append(host)
        return await resolve(self, host, *args, **kwargs)

    monkeypatch.setattr(ThreadedResolver, "resolve", count)
    return hosts


async def _one_after_the_other(block: Block) -> int:
    """How many connections the other service sees."""
    async with _shop(block) as (stock, ask):
        stock.gate.set()
        assert [await ask(sku) for sku in range(SEQUENTIAL)] == list(range(SEQUENTIAL))
        return len(stock.connections)


async def _all_at_once(block: Block, expected: int) -> int:
    """How many connections the other service sees while none of the requests is answered."""
    async with _shop(block) as (stock, ask):
        asking = asyncio.gather(*(ask(sku) for sku in range(AT_ONCE)))
        try:
            await stock.settle(expected)
            await asyncio.sleep(0.1)
            seen = len(stock.connections)
        finally:
            stock.gate.set()
            answers = await asking
        assert answers == list(range(AT_ONCE))
        return seen


async def test_incorrect_opens_a_connection_and_looks_the_host_up_for_each_request(
    incorrect: Block, witness: Witness, lookups: list[str]
) -> None:
    assert await _one_after_the_other(incorrect) == SEQUENTIAL
    assert lookups == ["localhost"] * SEQUENTIAL
    witness.observed(
        incorrect="20 requests: 20 TCP connections, 20 DNS lookups; 30 at once: 30 connections"
    )


async def test_correct_opens_one_connection_and_looks_the_host_up_once(
    correct: Block, witness: Witness, lookups: list[str]
) -> None:
    assert await _one_after_the_other(correct) == 1
    assert lookups == ["localhost"]
    witness.observed(
        correct="20 requests: 1 TCP connection, 1 DNS lookup; 30 at once: 10 connections"
    )


async def test_incorrect_limits_nothing(incorrect: Block) -> None:
    assert await _all_at_once(incorrect, AT_ONCE) == AT_ONCE


async def test_correct_keeps_to_its_limit_per_host(correct: Block) -> None:
    assert await _all_at_once(correct, PER_HOST) == PER_HOST


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What aiohttp is told, by the name of the class; of seconds to wait it gets a twentieth."""
    given: dict[str, dict[str, Any]] = {}
    connector, timeout = aiohttp.TCPConnector, aiohttp.ClientTimeout

    def make_connector(**options: Any) -> Any:
        given["connector"] = options
        return connector(**options)

    def make_timeout(**options: Any) -> Any:
        given["timeout"] = options
        return timeout(**{name: seconds / 20 for name, seconds in options.items()})

    monkeypatch.setattr(aiohttp, "TCPConnector", make_connector)
    monkeypatch.setattr(aiohttp, "ClientTimeout", make_timeout)
    return given


@asynccontextmanager
async def _session(block: Block, stock: Stock) -> AsyncIterator[tuple[Any, Any]]:
    """The block's client, and how to ask for a stock with it."""
    async with serving(stock.app) as behind:
        module = block.run(stock_url=f"http://localhost:{behind.port}")
        async with module.lifespan(module.app):
            session = module.app.state.http

            async def ask(sku: int) -> Any:
                try:
                    return await module.stock(sku, session)
                except Exception as error:
                    return error

            try:
                yield session, ask
            finally:
                stock.gate.set()


async def test_correct_gives_up_a_service_that_does_not_answer(
    correct: Block, asked: dict[str, Any]
) -> None:
    stock = Stock()
    async with _session(correct, stock) as (_, ask), asyncio.timeout(8):
        assert type(await ask(7)) is TimeoutError
    assert asked["timeout"]["total"] == 10


async def test_correct_gives_up_the_wait_for_a_connection_first(
    correct: Block, asked: dict[str, Any]
) -> None:
    stock = Stock()
    async with _session(correct, stock) as (_, ask), asyncio.timeout(8):
        outcomes = await asyncio.gather(*(ask(sku) for sku in range(PER_HOST + 1)))
    kinds = Counter(type(each) for each in outcomes)
    assert kinds == {TimeoutError: PER_HOST, aiohttp.ConnectionTimeoutError: 1}
    assert asked["timeout"] == {"total": 10, "connect": 5}


async def test_correct_raises_where_the_service_answers_an_error(
    correct: Block, asked: dict[str, Any]
) -> None:
    stock = Stock()
    stock.gate.set()
    async with _session(correct, stock) as (session, ask):
        outcome = await ask("seven")
        connector: Any = session.connector
        seconds = connector._cached_hosts._ttl
    assert isinstance(outcome, aiohttp.ClientResponseError)
    assert (outcome.status, connector.limit, seconds) == (422, 100, 60)
    assert session.closed
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)


def _changed(old: str, new: str) -> Block:
    """The Correct block with another text at one place."""
    block = RuleFile.load("pooling-http").block(correct=True)
    assert block.code.count(old) == 1
    return replace(block, code=block.code.replace(old, new))


@pytest.mark.parametrize(("jar", "second"), [("aiohttp.DummyCookieJar()", None), ("None", "1")])
async def test_one_users_cookie_goes_out_with_the_request_of_the_next_but_from_a_jar_that_keeps_none(
    jar: str, second: str | None
) -> None:
    async with _shop(_changed("aiohttp.DummyCookieJar()", jar)) as (stock, ask):
        stock.gate.set()
        for user in (1, 2):
            await ask(user)
    assert stock.users == [None, second]


@pytest.mark.parametrize("library", CLIENTS)
@pytest.mark.parametrize(
    ("jar", "second"), [(None, "1"), (CookieJar(DefaultCookiePolicy(allowed_domains=[])), None)]
)
async def test_httpx_keeps_cookies_too_unless_its_policy_allows_no_domain(
    jar: CookieJar | None, second: str | None, library: Any
) -> None:
    stock = Stock()
    stock.gate.set()
    async with (
        serving(stock.app) as behind,
        library.AsyncClient(base_url=behind.url, cookies=jar, verify=False) as client,
    ):
        for user in (1, 2):
            await client.get(f"/stock/{user}")
    assert stock.users == [None, second]


@pytest.mark.parametrize(("form", "answers"), [("async def", True), ("def", False)])
async def test_a_def_dependency_waits_for_a_thread_behind_40_sync_routes(
    form: str, answers: bool
) -> None:
    stock, go_on = Stock(), threading.Event()
    stock.gate.set()
    async with serving(stock.app) as behind:
        module = _changed("async def get_http", f"{form} get_http").run(stock_url=behind.url)
        app: FastAPI = module.app

        @app.get("/sync")
        def sync() -> None:
            go_on.wait(20)

        threads = to_thread.current_default_thread_limiter()
        assert threads.total_tokens == 40
        async with (
            serving(app) as served,
            httpx.AsyncClient(
                base_url=served.url, timeout=20, verify=False, limits=httpx.Limits()
            ) as client,
            asyncio.timeout(15),
            asyncio.TaskGroup() as group,
        ):
            try:
                for _ in range(40):
                    group.create_task(client.get("/sync"))
                while threads.available_tokens:
                    await asyncio.sleep(0.01)
                asked = group.create_task(client.get("/stock/7"))
                while not asked.done() and not threads.statistics().tasks_waiting:
                    await asyncio.sleep(0.01)
                assert asked.done() is answers
            finally:
                go_on.set()
    assert asked.result().json() == 7


@pytest.mark.parametrize("bound", [{"total": 0.3}, {"total": 10, "connect": 0.3}])
async def test_total_and_connect_include_the_wait_for_a_connection(
    bound: dict[str, float], witness: Witness
) -> None:
    stock = Stock()
    async with (
        serving(stock.app) as behind,
        aiohttp.ClientSession(behind.url, connector=aiohttp.TCPConnector(limit=1)) as session,
        asyncio.timeout(10),
    ):
        first = asyncio.ensure_future(session.get("/stock/1"))
        await stock.settle(1)
        with pytest.raises(TimeoutError) as raised:
            await session.get("/stock/2", timeout=aiohttp.ClientTimeout(**bound))
        assert isinstance(raised.value, aiohttp.ConnectionTimeoutError) is ("connect" in bound)
        witness.saw(raised.value)
        stock.gate.set()
        (await first).release()
    assert stock.inside == 1


async def test_the_defaults_are_those_that_the_rule_names() -> None:
    async with aiohttp.ClientSession() as session:
        connector: Any = session.connector
        assert (connector.limit, connector.limit_per_host, session.timeout.total) == (100, 0, 300)
        assert connector._cached_hosts._ttl == 10
    for library in CLIENTS:
        async with library.AsyncClient() as client:
            pool = client._transport._pool
            assert (pool._max_connections, pool._max_keepalive_connections) == (100, 20)
            assert client.timeout == library.Timeout(5)


@pytest.mark.parametrize("library", CLIENTS)
async def test_httpx_blocks_the_loop_while_it_is_made_and_opens_a_connection_per_client(
    library: Any,
) -> None:
    stock, limits = Stock(), library.Limits(max_connections=100, max_keepalive_connections=20)
    stock.gate.set()
    made, asked = [], []
    async with serving(stock.app) as behind:
        for _ in range(3):
            started = time.thread_time()
            client = library.AsyncClient(limits=limits, timeout=library.Timeout(5, pool=1))
            made.append(time.thread_time() - started)
            async with client:
                for sku in range(5):
                    started = time.thread_time()
                    await client.get(f"{behind.url}/stock/{sku}")
                    asked.append(time.thread_time() - started)
    assert len(stock.connections) == 3
    # Later releases of OpenSSL read the certificates faster.
    factor = 5 if ssl.OPENSSL_VERSION_INFO[:2] == (3, 0) else 1
    assert min(made) > factor * min(asked)


async def test_only_aiohttp_says_that_a_client_was_not_closed(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    def use(make: Callable[[], object]) -> list[str]:
        caplog.clear()
        make()
        gc.collect()
        return [record.getMessage().splitlines()[0] for record in caplog.records]

    with pytest.warns(ResourceWarning, match="Unclosed client session"):
        said = use(aiohttp.ClientSession)
    assert said == ["Unclosed client session"]
    witness.saw(*said)
    for library in CLIENTS:
        assert use(library.AsyncClient) == []
