"""The memory of a server over HTTP, while it answers requests of all kinds and sizes:
`make bench-memory`. Words that it has never seen are in each of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.generate import generate
from tests.services import Program, serving_process
from tests.services.process import HOST

SERVE = (sys.executable, "-m", "packlore", "serve", "--http", "--port", "{port}")
RULES = 100
"""Of the pack that is served."""
LARGEST = 1_000_000
"""Bytes of a query; a request of more than 1 MiB is refused."""
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WIDE = "é漢\U0001d400"
STEPS = 10
IDLE = 1.0
"""Seconds after which a connection is not used again: a server closes one in 5."""


def main() -> None:
    """Print the memory after each tenth of the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    print("requests   RSS MB   seconds   answers by status")

    def tell(done: int, memory: float, spent: float, statuses: dict[int, int]) -> None:
        print(f"{done:8} {memory:8.1f} {spent:9.0f}   {statuses}", flush=True)

    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as program:
        measure(program, given.requests, given.seed, tell)
        print("then one long word each:")
        measure(program, given.requests // 10, given.seed, tell, long_word)


def serving(folder: Path) -> Any:
    """A server of a made-up pack."""
    pack = generate(folder / "pack", RULES)
    return serving_process([*SERVE, "--pack", str(pack)], path="/health")


def measure(
    program: Program,
    requests: int,
    seed: int,
    tell: Callable[[int, float, float, dict[int, int]], None] = lambda *_: None,
    make: Callable[[random.Random], bytes] | None = None,
) -> list[float]:
    """The memory in MB at the start and after each tenth of the requests."""
    chance = random.Random(seed)
    found = [resident(program.process.pid)]
    statuses: dict[int, int] = {}
    begin = time.perf_counter()
    tell(0, found[0], 0.0, {})
    for step in range(STEPS):
        share = requests * (step + 1) // STEPS - requests * step // STEPS
        _ask(
            program.port, [chance.randrange(2**32) for _ in range(share)], statuses, make or request
        )
        found.append(resident(program.process.pid))
        done = requests * (step + 1) // STEPS
        tell(done, found[-1], time.perf_counter() - begin, dict(sorted(statuses.items())))
    return found


def _ask(
    port: int,
    seeds: list[int],
    statuses: dict[int, int],
    make: Callable[[random.Random], bytes],
    at_once: int = 4,
) -> None:
    """Send a request for each seed, over some connections at once."""
    left = iter(seeds)
    broken: list[Exception] = []

    def work() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=120)
        idle = time.monotonic()
        try:
            for seed in left:
                body = make(random.Random(seed))
                if time.monotonic() - idle > IDLE:
                    connection.close()  # another is opened
                connection.request("POST", "/mcp", body, HEADERS)
                answer = connection.getresponse()
                idle = time.monotonic()
                answer.read()
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
        except (OSError, http.client.HTTPException) as error:
            broken.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if broken:
        raise broken[0]


def request(chance: random.Random) -> bytes:
    """One call: of a tool, mostly, and of some size between a letter and a megabyte."""
    size = int(LARGEST ** chance.random()) or 1
    text = _text(chance, size)
    name = text[:60]
    method, params = chance.choice(
        (
            *[("tools/call", _find(text))] * 6,
            ("tools/call", {"name": "read_rules", "arguments": {"ids": [name, text[:5_000]]}}),
            ("tools/call", {"name": "load_category", "arguments": {"category": "topic1"}}),
            ("tools/call", {"name": "load_category", "arguments": {"category": name}}),
            ("tools/call", {"name": "list_rules", "arguments": {name: text[:100]}}),
            ("prompts/get", {"name": "review_code", "arguments": _review(text)}),
            ("prompts/get", {"name": "plan_work", "arguments": {"category": "topic2"}}),
            ("resources/read", {"uri": f"skill://generated/{name}"}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": name}}),
            ("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}),
            (name, {"text": text}),
        )
    )
    return _body(chance, method, params)


def _body(chance: random.Random, method: str, params: dict[str, Any]) -> bytes:
    body = {"jsonrpc": "2.0", "id": chance.randrange(2**31), "method": method, "params": params}
    return json.dumps(body, ensure_ascii=False).encode()


def _find(query: str) -> dict[str, Any]:
    return {"name": "find_rules", "arguments": {"query": query}}


def long_word(chance: random.Random) -> bytes:
    """A search for one word that is as long as a query is read: kept, each would be 64 KB."""
    return _body(chance, "tools/call", _find("\U0001d400" * 15_900 + f"a{chance.randrange(10**9)}"))


def _review(text: str) -> dict[str, str]:
    return {"category": "topic3", "code": text}


def _text(chance: random.Random, size: int) -> str:
    """Words of its own, short and long, up to `size` bytes: some are longer than any word is."""
    return "".join(_words(chance, size)).encode()[:size].decode("utf-8", "ignore") or "x"


def _words(chance: random.Random, size: int) -> Iterator[str]:
    longest = chance.choice((12, 12, 70, 20_000))
    letters = chance.choice((LETTERS, LETTERS, LETTERS + WIDE))
    left = size
    while left > 0:
        word = "".join(chance.choices(letters, k=min(chance.randint(1, 12), longest)))
        word *= max(longest // 12, 1)
        yield f"{word} "
        left -= len(word) + 1


def resident(pid: int) -> float:
    """The resident memory of a process in MB."""
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True)
    return int(said.stdout) / 1024


if __name__ == "__main__":
    main()
