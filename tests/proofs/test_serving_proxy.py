"""Whom uvicorn believes: everybody with "*", nobody by default, the proxy where it is named."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request

from tests.proofs.harness import Block, RuleFile, Witness
from tests.services import Nginx, serving

PROXY = "127.0.0.2"  # from where nginx connects; its clients are at 127.0.0.1
FORGED = {"X-Forwarded-For": "203.0.113.9"}
HEADERS = (
    "proxy_set_header Host $http_host",
    "proxy_set_header X-Forwarded-Proto https",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for",
)
OLDEST = version("uvicorn") == "0.30.0"


@dataclass(frozen=True)
class Site:
    """A service behind an nginx; `direct` is the way past it."""

    behind: httpx.AsyncClient
    direct: httpx.AsyncClient

    async def redirect(self) -> str:
        answer = await self.behind.get("/whoami")
        assert answer.status_code == 307
        location = answer.headers["Location"]
        assert location.endswith(f"://127.0.0.1:{self.behind.base_url.port}/whoami/")
        return str(location)

    async def client(self) -> str:
        return str((await self.behind.get("/whoami/")).json())

    async def forged(self) -> list[str]:
        """Who a client is that says who it is: through nginx, and past it."""
        ways = (self.behind, self.direct)
        return [(await way.get("/whoami/", headers=FORGED)).json() for way in ways]


@asynccontextmanager
async def _site(
    nginx: Callable[..., Nginx],
    app: FastAPI,
    *,
    headers: Sequence[str] = HEADERS,
    **options: Any,
) -> AsyncIterator[Site]:
    location = ["proxy_pass http://app", f"proxy_bind {PROXY}", *headers]
    async with serving(app, **options) as served:
        with nginx(served.port, location=location) as server:
            async with (
                httpx.AsyncClient(base_url=server.url) as behind,
                httpx.AsyncClient(base_url=served.url) as direct,
            ):
                yield Site(behind, direct)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[[Block], tuple[FastAPI, dict[str, Any]]]:
    """What a block starts: its app, and the options that uvicorn is given."""

    def start(block: Block) -> tuple[FastAPI, dict[str, Any]]:
        seen: list[tuple[FastAPI, dict[str, Any]]] = []
        monkeypatch.setattr(uvicorn, "run", lambda app, **options: seen.append((app, options)))
        given = {"host": "10.0.0.5", "port": 8000, "proxy_address": PROXY}
        module = block.run(**{name: given[name] for name in block.given})
        module.main()
        [(app, options)] = seen
        assert (options.pop("host"), options.pop("port")) == ("10.0.0.5", 8000)
        return app, options

    return start


@pytest.fixture
def app(started: Callable[[Block], tuple[FastAPI, dict[str, Any]]]) -> FastAPI:
    """The app of the Correct block, which a test starts as it likes."""
    return started(RuleFile.load("serving-proxy").block(correct=True))[0]


async def test_incorrect_lets_a_client_choose_its_address(
    incorrect: Block, started: Any, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    app, options = started(incorrect)
    async with _site(nginx, app, **options) as site:
        assert (await site.redirect()).startswith("https://")
        assert await site.client() == "127.0.0.1"
        assert await site.forged() == ["203.0.113.9", "203.0.113.9"]
    witness.observed(incorrect="a client that names another address is taken for it, 2 of 2 ways")


async def test_correct_takes_the_address_from_which_the_proxy_was_called(
    correct: Block, started: Any, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    app, options = started(correct)
    async with _site(nginx, app, **options) as site:
        assert (await site.redirect()).startswith("https://")
        assert await site.client() == "127.0.0.1"
        assert await site.forged() == ["127.0.0.1", "127.0.0.1"]
    witness.observed(correct="its real address on 2 of 2 ways; redirects stay https")


async def test_by_default_uvicorn_ignores_a_proxy_on_another_machine(
    app: FastAPI, nginx: Callable[..., Nginx], witness: Witness
) -> None:
    async with _site(nginx, app) as site:
        location = await site.redirect()
        witness.saw(f"location: {location}")
        assert location.startswith("http://")
        assert await site.client() == PROXY


async def test_the_environment_variable_does_the_same(
    app: FastAPI, nginx: Callable[..., Nginx], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", f"10.0.0.7, {PROXY}")
    async with _site(nginx, app) as site:
        assert (await site.redirect()).startswith("https://")
        assert await site.forged() == ["127.0.0.1", "127.0.0.1"]


async def test_a_network_is_understood_from_0_31_on(
    app: FastAPI, nginx: Callable[..., Nginx]
) -> None:
    async with _site(nginx, app, forwarded_allow_ips="127.0.0.2/31") as site:
        if OLDEST:
            assert (await site.redirect()).startswith("http://")
            assert await site.client() == PROXY
        else:
            assert (await site.redirect()).startswith("https://")
            assert await site.forged() == ["127.0.0.1", "127.0.0.1"]


async def test_of_a_list_in_which_all_are_named_the_first_is_taken(
    app: FastAPI, nginx: Callable[..., Nginx]
) -> None:
    named = f"{PROXY},127.0.0.1" if OLDEST else "127.0.0.0/30"
    async with _site(nginx, app, forwarded_allow_ips=named) as site:
        assert await site.forged() == ["203.0.113.9", "203.0.113.9"]


@pytest.mark.parametrize("header", range(3))
async def test_nginx_needs_each_of_its_headers(
    app: FastAPI, nginx: Callable[..., Nginx], header: int
) -> None:
    @app.get("/url")
    async def url(request: Request) -> str:
        return str(request.url_for("whoami"))

    text = (Path(__file__).parents[2] / "rules" / "serving-proxy.md").read_text("utf-8")
    assert f"`{HEADERS[header].replace('https', '$scheme')}`" in text
    headers = [each for each in HEADERS if each != HEADERS[header]]
    async with _site(nginx, app, headers=headers, forwarded_allow_ips=PROXY) as site:
        told = await site.behind.get("/url", headers={"X-Forwarded-Host": "shop.example.com"})
        through, _ = await site.forged()
        if header == 0:
            assert told.json() == "https://app/whoami/"
        elif header == 1:
            assert told.json().startswith("http://127.0.0.1:")
        else:
            assert told.json().startswith("https://127.0.0.1:")
        assert through == ("203.0.113.9" if header == 2 else "127.0.0.1")


async def test_everybody_may_be_believed_where_the_proxy_overwrites_and_nobody_gets_past_it(
    app: FastAPI, nginx: Callable[..., Nginx]
) -> None:
    headers = [*HEADERS[:2], "proxy_set_header X-Forwarded-For $remote_addr"]
    async with _site(nginx, app, headers=headers, forwarded_allow_ips="*") as site:
        assert (await site.redirect()).startswith("https://")
        assert await site.forged() == ["127.0.0.1", "203.0.113.9"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::", 0))
    except OSError:
        return False
    return True


async def _over_ipv6(app: FastAPI, named: str) -> list[Any]:
    """Who a client of 127.0.0.2 is over a socket of IPv6, and who another is behind it."""
    config = uvicorn.Config(
        app, host="::", port=0, log_config=None, ws="none", forwarded_allow_ips=named
    )
    server = uvicorn.Server(config)
    listening = config.bind_socket()  # as uvicorn does for several workers
    serve = asyncio.create_task(server._serve(sockets=[listening]))  # without signal handlers
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    transport = httpx.AsyncHTTPTransport(local_address=PROXY)
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        answers = [(await client.get("/whoami/", headers=each)).json() for each in ({}, FORGED)]
    server.should_exit = True
    await serve
    return answers


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
async def test_over_a_socket_of_ipv6_an_ipv4_proxy_has_another_name(
    correct: Block, started: Any
) -> None:
    app, options = started(correct)
    seen = f"::ffff:{PROXY}"
    assert await _over_ipv6(app, options.get("forwarded_allow_ips", "")) == [seen, seen]
    assert await _over_ipv6(app, seen) == [seen, FORGED["X-Forwarded-For"]]


async def _over_a_socket(app: FastAPI, path: Path, options: dict[str, Any]) -> tuple[Any, str]:
    """Who the client of a Unix socket is, and to where it is redirected."""
    config = uvicorn.Config(app, uds=str(path), log_config=None, ws="none", **options)
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server._serve())  # without signal handlers
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://shop", headers=headers
    ) as client:
        answers = [await client.get(path) for path in ("/whoami/", "/whoami")]
    server.should_exit = True
    await serve
    return answers[0].json(), answers[1].headers["Location"]


async def test_over_a_unix_socket_nobody_is_believed_by_name(
    correct: Block, started: Any, tmp_path: Path
) -> None:
    app, options = started(correct)
    seen = await _over_a_socket(app, tmp_path / "socket", options)
    assert seen == (None, "http://shop/whoami/")


async def test_over_a_unix_socket_the_star_is_believed(app: FastAPI, tmp_path: Path) -> None:
    seen = await _over_a_socket(app, tmp_path / "socket", {"forwarded_allow_ips": "*"})
    assert seen == ("127.0.0.1", "https://shop/whoami/")


async def test_a_route_that_reads_the_header_believes_everybody(
    app: FastAPI, nginx: Callable[..., Nginx]
) -> None:
    @app.get("/header")
    async def header(request: Request) -> str:
        return request.headers["X-Forwarded-For"].split(",")[0]

    async with _site(nginx, app, forwarded_allow_ips=PROXY) as site:
        for way in (site.behind, site.direct):
            assert (await way.get("/header", headers=FORGED)).json() == "203.0.113.9"


@pytest.mark.parametrize("given", ["nobody", "the app", "uvicorn"])
@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
async def test_a_prefix_that_the_proxy_strips_is_for_uvicorn_to_know(
    app: FastAPI, nginx: Callable[..., Nginx], given: str
) -> None:
    headers = [*HEADERS, "rewrite ^/api/(.*)$ /$1 break"]
    options = {"root_path": "/api"} if given == "uvicorn" else {}
    if given == "the app":
        app.root_path = "/api"
    async with _site(nginx, app, headers=headers, forwarded_allow_ips=PROXY, **options) as site:
        assert (await site.behind.get("/api/whoami/")).json() == "127.0.0.1"
        redirect = (await site.behind.get("/api/whoami")).headers["Location"]
        docs = (await site.behind.get("/api/docs")).text
    assert redirect.endswith("/api/whoami/") is (given == "uvicorn")
    assert ("'/api/openapi.json'" in docs) is (given != "nobody")
