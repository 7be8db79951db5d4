"""A blocking call stops the loop in a coroutine, and not in a thread; the threads are few."""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, TypeVar

import anyio.to_thread
import pytest

from tests.proofs.harness import Block, Witness

T = TypeVar("T")

CALL = 0.4  # seconds that the mail server takes


class MailServer(socketserver.ThreadingTCPServer):
    """An SMTP server that greets its clients once `open` is set."""

    block_on_close = False
    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        self.open = threading.Event()
        self.clients: list[int] = []
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", 0), Session)

    @property
    def address(self) -> dict[str, Any]:
        host, port = self.socket.getsockname()
        return {"host": host, "port": port}


class Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.server.clients.append(1)
        if not self.server.open.wait(5):
            self.server.open.set()  # one wait is enough where the loop stands still
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(b"".join(lines).decode())
            if line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.open.set()
        server.shutdown()
        serving.join(10)


async def _in_a_loop_of_its_own(main: Coroutine[Any, Any, T]) -> T:
    """As a service runs it: with its own threads, which are gone at the end; in debug mode."""
    return await asyncio.to_thread(asyncio.run, main, debug=True)


async def _largest_gap(block: Block, server: MailServer) -> tuple[int, float]:
    """How often the loop turned while a mail was sent, and its largest gap as a part of that."""
    module = block.run(**server.address)
    server.open.clear()

    async def main() -> tuple[int, float]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                ticks.append(time.perf_counter())
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.02)
        start = time.perf_counter()
        threading.Timer(CALL, server.open.set).start()
        await module.send_receipt("jo@example.com", 7)
        end = time.perf_counter()
        await asyncio.sleep(0.02)
        ticking.cancel()
        gaps = [later - earlier for earlier, later in pairwise(ticks)]
        return sum(start < each < end for each in ticks), max(gaps) / (end - start)

    result = await _in_a_loop_of_its_own(main())
    mail = server.mails.pop().splitlines()
    assert mail[:3] == ["From: billing@example.com", "To: jo@example.com", "Subject: Receipt 7"]
    return result


async def test_incorrect_stops_the_loop_for_the_whole_call(
    incorrect: Block, mail_server: MailServer, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    turns, gap = await _largest_gap(incorrect, mail_server)
    assert turns == 0
    assert gap > 0.9
    assert "took" in caplog.text
    witness.observed(incorrect="during a call of 0.4 s the loop turned 0 times")


async def test_correct_lets_the_loop_run_on(
    correct: Block, mail_server: MailServer, witness: Witness
) -> None:
    # A busy machine stops the loop as well. A call that blocks it does so every time.
    for _ in range(5):
        turns, gap = await _largest_gap(correct, mail_server)
        if gap < 0.5:
            break
    assert turns > 3
    assert gap < 0.5
    witness.observed(correct="the loop ran on; its largest gap was below half of the call")


async def test_a_thread_is_not_cancelled(correct: Block, mail_server: MailServer) -> None:
    module = correct.run(**mail_server.address)

    async def main() -> list[str]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await module.send_receipt("jo@example.com", 7)
        mails = list(mail_server.mails)
        threading.Timer(0.05, mail_server.open.set).start()
        return mails

    assert await _in_a_loop_of_its_own(main()) == []
    assert len(mail_server.mails) == 1  # asyncio.run() has waited for it


async def test_a_server_that_stays_silent_ends_the_thread_by_its_time_limit(
    correct: Block, mail_server: MailServer
) -> None:
    module = correct.run(**mail_server.address)
    assert module.TIMEOUT == 10
    module.TIMEOUT = 0.1
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        await module.send_receipt("jo@example.com", 7)
    assert not mail_server.open.is_set()
    assert mail_server.mails == []


def test_since_3_12_the_wait_for_threads_is_bounded() -> None:
    limit = getattr(asyncio.constants, "THREAD_JOIN_TIMEOUT", None)  # type: ignore[attr-defined]
    assert limit == (300 if sys.version_info >= (3, 12) else None)


async def test_calls_beyond_the_number_of_threads_wait_and_so_do_name_look_ups(
    correct: Block, mail_server: MailServer
) -> None:
    module = correct.run(**mail_server.address)
    cpus = getattr(os, "process_cpu_count", os.cpu_count)()
    threads = min(32, (cpus or 1) + 4)

    async def main() -> int:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for number in range(threads + 5):
                group.create_task(module.send_receipt("jo@example.com", number))
            while len(mail_server.clients) < threads:
                await asyncio.sleep(0.01)
            look_up = asyncio.get_running_loop().getaddrinfo("127.0.0.1", 25)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(look_up, 0.1)
            at_once = len(mail_server.clients)
            mail_server.open.set()
        return at_once

    assert await _in_a_loop_of_its_own(main()) == threads
    assert len(mail_server.mails) == threads + 5


async def test_a_thread_has_no_loop_and_reaches_the_one_that_it_is_given(witness: Witness) -> None:
    with pytest.raises(RuntimeError) as caught:
        await asyncio.to_thread(asyncio.get_event_loop)
    witness.saw(caught.value)
    loop, ran = asyncio.get_running_loop(), []

    async def work() -> str:
        ran.append(asyncio.get_running_loop())
        return "done"

    def in_the_thread() -> str:
        return asyncio.run_coroutine_threadsafe(work(), loop).result(10)

    assert await asyncio.to_thread(in_the_thread) == "done"
    assert ran == [loop]


def test_from_3_14_on_the_main_thread_has_no_loop_either_until_one_runs() -> None:
    command = [sys.executable, "-W", "ignore", "-c", "import asyncio; asyncio.get_event_loop()"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "RuntimeError: There is no current event loop in thread 'MainThread'."
    assert (said in told.stderr) is (told.returncode == 1) is (sys.version_info >= (3, 14))


async def test_only_to_thread_copies_context_variables() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    user.set("jo")
    assert await asyncio.to_thread(user.get) == "jo"
    assert await asyncio.get_running_loop().run_in_executor(None, user.get) == "nobody"


async def test_plain_routes_have_40_threads_of_anyio() -> None:
    assert anyio.to_thread.current_default_thread_limiter().total_tokens == 40


async def _standing(executor: Executor, function: Any, argument: Any) -> float:
    """For which part of a computation of some tenths of a second the loop stands at most."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(executor, sum, range(10))  # its thread or process has started
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.002)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    start = time.perf_counter()
    await loop.run_in_executor(executor, function, argument)
    end = time.perf_counter()
    await asyncio.sleep(0.02)
    ticking.cancel()
    return max(later - earlier for earlier, later in pairwise(ticks)) / (end - start)


async def _best(wanted: Callable[[float], bool], *computation: Any) -> float:
    """What is wanted, or the last of five tries: a busy machine stops the loop as well."""
    for _ in range(5):
        if wanted(part := await _standing(*computation)):
            break
    return part


async def test_a_thread_does_not_help_code_that_holds_the_gil_and_a_process_does() -> None:
    text = f"[{'0,' * 3_000_000}0]"
    with ThreadPoolExecutor(1) as thread:
        assert await _best(lambda part: part > 0.8, thread, json.loads, text) > 0.8
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        assert await _best(lambda part: part < 0.5, process, sum, range(8_000_000)) < 0.5
