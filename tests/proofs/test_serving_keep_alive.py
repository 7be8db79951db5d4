"""A request that meets a closing connection is lost: the proxy must be the one that closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.proofs.harness import Block, Witness
from tests.services import Nginx, Proxy, proxied, serving
from tests.services.process import HOST

HURRY = 60  # times are divided by it
KEPT = 60  # seconds for which nginx keeps an idle connection to an upstream
LOCATION = ("proxy_pass http://app", "proxy_http_version 1.1", 'proxy_set_header Connection ""')


@dataclass
class Orders:
    """An application, and the methods with which it was called."""

    app: FastAPI = field(default_factory=FastAPI)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for method in ("GET", "POST"):
            self.app.add_api_route("/", self._endpoint(method), methods=[method])

    def _endpoint(self, method: str) -> Callable[..., Any]:
        async def endpoint(seconds: float = 0) -> None:
            self.calls.append(method)
            await asyncio.sleep(seconds)

        return endpoint


@dataclass(frozen=True)
class Site:
    """nginx, before it clients, and between it and uvicorn a network that can hold answers back."""

    server: Nginx
    client: httpx.AsyncClient
    network: Proxy
    direct: int
    """uvicorn's own port."""

    async def ask_after(self, seconds: float, method: str = "POST") -> httpx.Response:
        """Ask, be idle while what uvicorn sends stays on its way, and ask again."""
        assert (await self.client.request(method, "/")).status_code == 200
        self.network.answering.clear()
        await asyncio.sleep(seconds)
        asking = asyncio.create_task(self.client.request(method, "/"))
        await asyncio.sleep(0.1)
        self.network.answering.set()
        return await asking


@asynccontextmanager
async def _site(
    nginx: Callable[..., Nginx],
    app: FastAPI,
    upstream: Sequence[str] = ("keepalive 8", f"keepalive_timeout {KEPT * 1000 // HURRY}ms"),
    location: Sequence[str] = LOCATION,
    **options: Any,
) -> AsyncIterator[Site]:
    async with serving(app, **options) as served, proxied(served.port) as network:
        with nginx(network.port, location=location, upstream=upstream) as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                yield Site(server, client, network, served.port)


def _options(block: Block, app: FastAPI, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options with which a block starts uvicorn, its time in a hurry."""
    seen: list[tuple[FastAPI, dict[str, Any]]] = []
    patch.setattr(uvicorn, "run", lambda app, **options: seen.append((app, options)))
    block.run(app=app, host="10.0.0.5", port=8000).main()
    [(given, options)] = seen
    assert given is app
    assert (options.pop("host"), options.pop("port")) == ("10.0.0.5", 8000)
    kept = uvicorn.Config(app, **options).timeout_keep_alive
    return {**options, "timeout_keep_alive": kept / HURRY}


async def test_incorrect_loses_a_post_that_meets_the_closing_connection(
    incorrect: Block,
    nginx: Callable[..., Nginx],
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
) -> None:
    orders = Orders()
    options = _options(incorrect, orders.app, monkeypatch)
    assert options["timeout_keep_alive"] * HURRY == 5
    async with _site(nginx, orders.app, **options) as site:
        lost = await site.ask_after(0.5)
        assert lost.status_code == 502
        witness.saw(lost.text, site.server.log)
        assert orders.calls == ["POST"]
        orders.calls.clear()
        assert (await site.ask_after(0.5, "GET")).status_code == 200
        assert orders.calls == ["GET", "GET"]
        assert site.server.log.count("upstream prematurely closed connection") == 2
    witness.observed(incorrect="a POST after half of the proxy's idle time: 502, never executed")


async def test_correct_answers_each(
    correct: Block,
    nginx: Callable[..., Nginx],
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
) -> None:
    orders = Orders()
    options = _options(correct, orders.app, monkeypatch)
    async with _site(nginx, orders.app, **options) as site:
        statuses = [(await site.ask_after(seconds)).status_code for seconds in (0.5, 0.75)]
        assert statuses == [200, 200]
        assert orders.calls == ["POST"] * 4
        assert site.server.log == ""
        # A client that never closes is dropped all the same.
        reader, writer = await asyncio.open_connection(HOST, site.direct)
        writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        async with asyncio.timeout(3 * KEPT / HURRY):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    witness.observed(correct="2 of 2 are 200: after half and after three quarters of it")


async def test_a_proxy_that_closes_sooner_does_as_well(nginx: Callable[..., Nginx]) -> None:
    orders = Orders()
    upstream = ("keepalive 8", f"keepalive_timeout {4000 // HURRY}ms")
    async with _site(nginx, orders.app, upstream, timeout_keep_alive=5 / HURRY) as site:
        assert (await site.ask_after(1)).status_code == 200


async def test_without_keep_alive_nginx_connects_for_each_request(
    nginx: Callable[..., Nginx],
) -> None:
    orders = Orders()
    location = ["proxy_pass http://app"]
    async with _site(nginx, orders.app, (), location, timeout_keep_alive=5 / HURRY) as site:
        assert (await site.ask_after(0.5)).status_code == 200
        assert site.server.log == ""


async def test_nginx_that_repeats_any_request_repeats_one_that_was_executed(
    nginx: Callable[..., Nginx],
) -> None:
    executed: list[bytes] = []

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Execute each request; of the second one the answer is lost."""
        with suppress(asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                executed.append(request[:4])
                if len(executed) == 2:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(work, HOST, 0) as worker:
        to = worker.sockets[0].getsockname()[1]
        location = [*LOCATION, "proxy_next_upstream error non_idempotent"]
        with nginx(to, location=location, upstream=["keepalive 8"]) as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                assert [(await client.post("/")).status_code for _ in range(2)] == [200, 200]
    assert executed == [b"POST"] * 3


async def test_a_long_request_is_not_cut_off() -> None:
    orders = Orders()
    async with (
        serving(orders.app, timeout_keep_alive=5 / HURRY) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        answer = await client.post("/", params={"seconds": 0.5})
    assert answer.status_code == 200
