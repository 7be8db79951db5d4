"""A request whose answer was lost did its work: a second copy does it again but for its key."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import aiohttp
import httpx
import pytest

from tests.proofs.harness import Block, Witness
from tests.services import free_port
from tests.services.process import HOST

ORDER = UUID(int=7)
PAUSES = [0.25, 0.5, 1.0]


@dataclass
class Partner:
    """A payment service that follows its script: a status, or a way to lose the answer."""

    script: list[Any] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)  # of each request
    charges: dict[str, str] = field(default_factory=dict)  # receipts by key
    connections: int = 0
    headers: dict[str, str] = field(default_factory=dict)  # of an answer that is no 200
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _charge(self, key: str | None) -> str:
        kept = key or f"none-{len(self.keys)}"
        return self.charges.setdefault(kept, f"r{len(self.charges) + 1}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
                fields = dict(line.split(": ", 1) for line in head[1:] if line)
                await reader.readexactly(int(fields.get("content-length", 0)))
                self.keys.append(fields.get("idempotency-key"))
                how = self.script.pop(0) if self.script else 200
                if how == "drop":  # without having worked, as of a connection that was idle
                    return
                if how in ("close", "reset", "silence", 200):
                    body = json.dumps({"receipt": self._charge(self.keys[-1])}).encode()
                if how == "silence":
                    await reader.read()
                    return
                if how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                if how == "close":
                    return
                more = ""
                if how != 200:
                    body = b"{}"
                    more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                length = f"Content-Length: {len(body)}\r\n"
                writer.write(f"HTTP/1.1 {how} Word\r\n{length}{more}\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Partner]:
        server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


@dataclass
class Clock:
    """What the block does with time: it waits for nothing, and says what it was told."""

    waits: list[float] = field(default_factory=list)
    bounds: list[tuple[float, float]] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    hurry: float = 1
    chance: float = 1  # 0: the shortest random wait, 1: the longest

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def timeout(self, seconds: float) -> Any:
        self.totals.append(seconds)
        return asyncio.timeout(seconds / self.hurry)

    def uniform(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return low + self.chance * (high - low)


@asynccontextmanager
async def _shop(
    block: Block, partner: Partner, **options: Any
) -> AsyncIterator[tuple[Callable[[], Awaitable[str]], Clock, httpx.AsyncClient]]:
    """How to charge an order with the block, and its clock; a silent partner is given up soon."""
    timeout = options.pop("timeout", httpx.Timeout(0.3))
    async with (
        partner.listening(),
        httpx.AsyncClient(base_url=partner.url, timeout=timeout, verify=False, **options) as client,
    ):
        module, clock = block.run(payments=client), Clock()
        module.asyncio = SimpleNamespace(sleep=clock.sleep, timeout=clock.timeout)
        module.random = SimpleNamespace(uniform=clock.uniform)

        async def charge() -> str:
            async with asyncio.timeout(10):
                return str(await module.charge(ORDER, 1990))

        yield charge, clock, client


async def test_incorrect_charges_twice_where_the_answer_was_lost(
    incorrect: Block, witness: Witness
) -> None:
    partner = Partner(["close"])
    async with _shop(incorrect, partner) as (charge, _, _):
        assert await charge() == "r2"
    assert len(partner.charges) == 2
    witness.observed(
        incorrect="answer lost: 2 charges; card refused (402): asked 3 times",
    )


async def test_incorrect_asks_three_times_for_a_card_that_was_refused(incorrect: Block) -> None:
    partner = Partner([402] * 3)
    async with _shop(incorrect, partner) as (charge, clock, _):
        with pytest.raises(httpx.HTTPStatusError):
            await charge()
    assert (len(partner.keys), clock.waits) == (3, [1, 2])


@pytest.mark.parametrize("how", ["close", "reset", "silence", "drop"])
async def test_correct_charges_once(correct: Block, witness: Witness, how: str) -> None:
    partner = Partner([how, how])
    async with _shop(correct, partner) as (charge, clock, _):
        assert await charge() == "r1"
    assert partner.charges == {f"charge-{ORDER}": "r1"}
    assert partner.keys == [f"charge-{ORDER}"] * 3
    assert clock.waits == PAUSES[:2]
    witness.observed(correct="answer lost twice: 1 charge; card refused (402): asked once")


@pytest.mark.parametrize("status", [301, 400, 402, 409, 500])
async def test_correct_asks_once_where_the_partner_has_decided(correct: Block, status: int) -> None:
    partner = Partner([status])
    async with _shop(correct, partner) as (charge, clock, _):
        with pytest.raises(httpx.HTTPStatusError, match=str(status)):
            await charge()
    assert (len(partner.keys), clock.waits) == (1, [])


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_correct_repeats_what_a_partner_or_its_proxy_could_not_do_now(
    correct: Block, status: int
) -> None:
    partner = Partner([status])
    async with _shop(correct, partner) as (charge, clock, _):
        assert await charge() == "r1"
    assert (len(partner.keys), clock.waits) == (2, PAUSES[:1])


@pytest.mark.parametrize("status", [409, 429, 503])
async def test_correct_waits_for_as_long_as_the_partner_says(correct: Block, status: int) -> None:
    partner = Partner([status], headers={"Retry-After": "2"})
    async with _shop(correct, partner) as (charge, clock, _):
        assert await charge() == "r1"
    assert (len(partner.keys), clock.waits) == (2, [2.25])


@pytest.mark.parametrize("seconds", ["5", "3600", "9" * 5000])
async def test_correct_gives_up_at_once_where_the_partner_says_to_come_back_later(
    correct: Block, seconds: str
) -> None:
    partner = Partner([503], headers={"Retry-After": seconds})
    async with _shop(correct, partner) as (charge, clock, _):
        clock.chance = 0
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await charge()
    assert (len(partner.keys), clock.waits) == (1, [])


@pytest.mark.parametrize("date", ["Fri, 27 Nov 2026 02:00:00 GMT", "-1", "soon"])
async def test_correct_takes_its_own_wait_where_retry_after_is_no_number(
    correct: Block, date: str
) -> None:
    partner = Partner([503], headers={"Retry-After": date})
    async with _shop(correct, partner) as (charge, clock, _):
        assert await charge() == "r1"
    assert clock.waits == PAUSES[:1]


async def test_correct_gives_up_after_four_tries_with_random_waits(correct: Block) -> None:
    partner = Partner(["close"] * 4)
    async with _shop(correct, partner) as (charge, clock, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await charge()
        assert len(partner.keys) == 4
        assert clock.bounds == [(0, pause) for pause in PAUSES]
        partner.script = [503] * 4
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await charge()
    assert len(partner.keys) == 8


async def test_correct_bounds_all_tries_together(correct: Block) -> None:
    partner = Partner(["silence"] * 4)
    async with _shop(correct, partner, timeout=httpx.Timeout(5)) as (charge, clock, _):
        clock.hurry = 50
        with pytest.raises(TimeoutError) as raised:
            await charge()
    assert not isinstance(raised.value.__cause__, httpx.HTTPError)
    assert (clock.totals, len(partner.keys)) == ([10], 1)


async def test_correct_does_not_repeat_where_its_own_pool_is_empty(
    correct: Block, witness: Witness
) -> None:
    partner, limits = Partner(["silence"]), httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(5, pool=0.05)
    async with _shop(correct, partner, timeout=timeout, limits=limits) as (charge, clock, client):
        held = asyncio.ensure_future(client.get("/"))
        while not partner.keys:
            await asyncio.sleep(0.01)
        with pytest.raises(httpx.PoolTimeout) as raised:
            await charge()
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
    witness.saw(raised.value)
    assert (len(partner.keys), clock.waits) == (1, [])


REPEATED = [
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.RemoteProtocolError,
    httpx.WriteError,
    httpx.WriteTimeout,
]


@pytest.mark.parametrize("error", REPEATED)
async def test_correct_repeats_what_the_network_lost(
    correct: Block, error: type[Exception]
) -> None:
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("Idempotency-Key"))
        if len(sent) <= 2:
            raise error("an error of the transport")
        return httpx.Response(200, json={"receipt": "r1"})

    transport = httpx.MockTransport(answer)
    async with _shop(correct, Partner(), transport=transport) as (charge, _, _):
        assert await charge() == "r1"
    assert sent == [f"charge-{ORDER}"] * 3


@pytest.mark.parametrize(
    "error", [httpx.PoolTimeout, httpx.LocalProtocolError, httpx.UnsupportedProtocol]
)
async def test_correct_does_not_repeat_what_is_wrong_here(
    correct: Block, error: type[Exception]
) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise error("an error of the transport")

    transport = httpx.MockTransport(answer)
    async with _shop(correct, Partner(), transport=transport) as (charge, _, _):
        with pytest.raises(error):
            await charge()
    assert len(sent) == 1


@pytest.mark.parametrize("status", [200, 202])
async def test_correct_takes_a_success_at_once_whatever_its_retry_after(
    correct: Block, status: int
) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Idempotency-Key"])
        return httpx.Response(status, json={"receipt": "r1"}, headers={"Retry-After": "1"})

    transport = httpx.MockTransport(answer)
    async with _shop(correct, Partner(), transport=transport) as (charge, _, _):
        assert await charge() == "r1"
    assert len(sent) == 1


async def test_correct_names_the_order_and_the_amount(correct: Block) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path, json.loads(request.content)))
        if len(sent) == 1:
            return httpx.Response(500)
        return httpx.Response(200, json={"receipt": "r1"})

    transport = httpx.MockTransport(answer)
    async with _shop(correct, Partner(), transport=transport) as (charge, _, _):
        with pytest.raises(httpx.HTTPStatusError):
            await charge()
        assert len(sent) == 1
        assert await charge() == "r1"
    assert sent == [("POST", "/charges", {"order": str(ORDER), "cents": 1990})] * 2


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("close", httpx.RemoteProtocolError),
        ("drop", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("silence", httpx.ReadTimeout),
    ],
)
async def test_a_lost_answer_looks_the_same_whether_the_partner_has_worked_or_not(
    witness: Witness, how: str, kind: type[Exception]
) -> None:
    partner = Partner([200, how])
    async with (
        partner.listening(),
        httpx.AsyncClient(base_url=partner.url, timeout=0.3, verify=False) as client,
    ):
        await client.post("/charges")
        with pytest.raises(kind) as raised:
            await client.post("/charges")
    witness.saw(raised.value)
    assert partner.connections == 1  # the second request went over the kept connection
    assert len(partner.charges) == (1 if how == "drop" else 2)


async def test_what_was_never_sent_has_errors_of_its_own(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        with pytest.raises(httpx.ConnectError) as refused:
            await client.get(f"http://{HOST}:{free_port()}")

        def unknown(*_: object, **__: object) -> Any:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(httpx.ConnectError) as nowhere:
            await client.get("http://partner.example")
    witness.saw(refused.value, nowhere.value)


async def test_retries_of_httpx_repeat_the_connect_and_nothing_that_was_sent() -> None:
    transport = httpx.AsyncHTTPTransport(retries=2, verify=False)
    partner = Partner(["close"], port=free_port())
    async with (
        httpx.AsyncClient(base_url=partner.url, transport=transport) as client,
        asyncio.timeout(8),
    ):
        asking = asyncio.ensure_future(client.post("/charges"))
        await asyncio.sleep(0.1)  # its first connect was refused, and the next one follows
        assert not asking.done()
        async with partner.listening():
            with pytest.raises(httpx.RemoteProtocolError):
                await asking
    assert len(partner.keys) == 1


@pytest.mark.parametrize(("method", "copies"), [("GET", 2), ("POST", 1)])
async def test_aiohttp_repeats_a_get_by_itself_where_a_kept_connection_was_closed(
    witness: Witness, method: str, copies: int
) -> None:
    partner = Partner([200, "close", "close"])
    async with partner.listening(), aiohttp.ClientSession(partner.url) as session:
        await (await session.request(method, "/charges")).read()
        with pytest.raises(aiohttp.ServerDisconnectedError) as raised:
            await session.request(method, "/charges")
    witness.saw(raised.value)
    assert len(partner.keys) == 1 + copies


async def test_httpx_keeps_an_idle_connection_for_5_seconds() -> None:
    assert httpx.Limits().keepalive_expiry == 5


async def test_a_body_that_is_a_generator_cannot_be_sent_twice(witness: Witness) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"1990"

    partner = Partner([503])
    async with (
        partner.listening(),
        httpx.AsyncClient(base_url=partner.url, verify=False) as client,
    ):
        length = {"Content-Length": "4"}
        request = client.build_request("PUT", "/orders/7", content=body(), headers=length)
        assert (await client.send(request)).status_code == 503
        with pytest.raises(httpx.StreamConsumed) as raised:
            await client.send(request)
    witness.saw(raised.value)
