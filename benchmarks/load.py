"""Requests a second and p99 of the server over HTTP, for one and two workers: `make bench-load`.

The client is a process of its own and shares the machine with the server: on two cores, two
workers and a client are three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time

from tests.services import serving_process

SERVE = (sys.executable, "-m", "packlore", "serve", "--http", "--port", "{port}")
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "find_rules",
        "arguments": {"query": "QueuePool limit of size 5 overflow 10 reached, timeout 30.00"},
    },
}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": "2025-06-18",
}


def main() -> None:
    """Print a row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.url:
        asyncio.run(client(arguments.url, arguments.requests, arguments.at_once))
        return
    print(f"find_rules over HTTP, {arguments.requests} requests, {arguments.at_once} at once")
    print("workers  requests/s   p50 ms   p99 ms  failed")
    for workers in (1, 2):
        with serving_process([*SERVE, "--workers", str(workers)], path="/health") as program:
            url = f"{program.url}/mcp"
            command = [sys.executable, "-m", "benchmarks.load", "--url", url]
            for count in (200, arguments.requests):  # the first round warms the workers up
                options = ["--requests", str(count), "--at-once", str(arguments.at_once)]
                done = subprocess.run([*command, *options], check=True, capture_output=True)
            row = json.loads(done.stdout)
        print(
            f"{workers:7} {row['rate']:11.0f} {row['p50'] * 1e3:8.1f} {row['p99'] * 1e3:8.1f}"
            f" {row['failed']:7}"
        )


async def client(url: str, requests: int, at_once: int) -> None:
    """Send requests over `at_once` connections, and print what they took as JSON."""
    import aiohttp

    spent: list[float] = []
    failed = 0
    left = iter(range(requests))

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal failed
        for _ in left:
            begin = time.perf_counter()
            async with session.post(url, json=CALL, headers=HEADERS) as response:
                body = await response.read()
            spent.append(time.perf_counter() - begin)
            failed += response.status != 200 or b"pooling-database" not in body

    begin = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work(session))
    whole = time.perf_counter() - begin
    spent.sort()
    row = {
        "rate": requests / whole,
        "p50": spent[len(spent) // 2],
        "p99": spent[int(len(spent) * 0.99)],
        "failed": failed,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
