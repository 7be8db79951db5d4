"""Start, search, check, memory and growth: `make bench`. Numbers of one run on one machine, side by
side; not a test, for machines differ. `CODE=DIR` names a large repository, which is checked by
`packlore check` and by `ast-grep scan` with the same rules, in turns."""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from benchmarks.checking import large
from benchmarks.finding.queries import load
from benchmarks.generate import generate

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 15
NOOP = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("noop")
@server.tool()
def noop(text: str) -> str:
    return text
server.run()
"""
INSIDE = """
import json, resource, sys, time
from pathlib import Path
from packlore.library import Library
start = time.perf_counter()
library = Library.open([Path(sys.argv[1])])
read = time.perf_counter() - start
library.index
indexed = time.perf_counter() - start - read
queries = json.loads(sys.stdin.read())
library.search("warm up")
spent = []
for query in queries:
    begin = time.perf_counter()
    library.search(query)
    spent.append(time.perf_counter() - begin)
spent.sort()
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "rules": sum(1 for _ in library.rules()),
    "read": read, "index": indexed,
    "p50": spent[len(spent) // 2], "p99": spent[int(len(spent) * 0.99)],
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
}))
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--code", type=Path, help="a folder of code to check")
    given = parser.parse_args()
    compileall.compile_dir(ROOT / "server", quiet=1)  # as an installation has done
    noop, ours = asyncio.run(starts())
    print(f"cold start to tools/list, median of {ROUNDS}, in turns")
    print(f"  a no-op server of the same SDK   {noop * 1000:7.0f} ms")
    print(f"  packlore                         {ours * 1000:7.0f} ms   {ours / noop:.2f} times")
    whole = process("search", "greenlet_spawn has not been called")
    print(
        f"packlore search, whole process     {whole * 1000:7.0f} ms   {whole / ours:.2f} of the start"
    )
    checked = process("check", "assets/fastapi-app-template.py")
    print(
        f"packlore check of one file         {checked * 1000:7.0f} ms   {checked / noop:.2f} of the no-op server's"
    )
    queries = [query.text for query in load("tune")]
    print("\n  rules   read ms  index ms   p50 ms   p99 ms  peak MB")
    with tempfile.TemporaryDirectory() as folder:
        packs = [ROOT] + [generate(Path(folder, str(n)), n) for n in (700, 7000)]
        for pack in packs:
            row = inside(pack, queries)
            print(
                f"{row['rules']:7.0f} {row['read'] * 1e3:9.0f} {row['index'] * 1e3:9.0f}"
                f" {row['p50'] * 1e3:8.2f} {row['p99'] * 1e3:8.2f} {row['memory'] / 1e6:8.0f}"
            )

    if given.code:
        large(given.code)
    else:
        print("\na large repository: none is given (make bench CODE=DIR)")


async def starts() -> tuple[float, float]:
    """Seconds to the list of tools: a no-op server's and ours, measured in turns."""
    commands = ([sys.executable, "-c", NOOP], [sys.executable, "-m", "packlore", "serve"])
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for command, times in zip(commands, spent, strict=True):
            parameters = StdioServerParameters(command=command[0], args=command[1:])
            begin = time.perf_counter()
            async with Client(stdio_client(parameters)) as client:
                await client.list_tools()
                times.append(time.perf_counter() - begin)
    return statistics.median(spent[0]), statistics.median(spent[1])


def process(*arguments: str) -> float:
    """Seconds of a whole command of packlore, which says nothing is wrong."""
    command = [sys.executable, "-m", "packlore", *arguments]
    spent = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)


def inside(pack: Path, queries: list[str]) -> dict[str, float]:
    """Times and peak memory of a process of its own that reads, indexes and searches a pack."""
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(pack)],
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
