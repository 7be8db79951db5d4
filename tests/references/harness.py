"""The blocks of the references, and what their tests wait with."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from tests.blocks import python_blocks
from tests.proofs.harness import ROOT, Block

NAMES = (
    "alembic-env",
    "eager-loading",
    "fastapi-app-boilerplate",
    "fastapi-integration",
    "fastapi-skill-differences",
    "middleware-stack",
    "pool-sizing",
    "semaphore-patterns",
    "taskgroup-patterns",
)
PATHS = {name: ROOT / "references" / f"{name}.md" for name in NAMES}
BLOCKS = {name: [block for block, _ in python_blocks(path)] for name, path in PATHS.items()}
RULES = {path.stem for path in (ROOT / "rules").glob("[!_]*.md")}
LIMIT = 30  # seconds for whatever must end
RAN: set[tuple[str, int]] = set()


def find(name: str, defines: str) -> Block:
    """The one block of a reference that defines this name. It counts as run."""
    pattern = rf"^(?:(?:async )?def|class) {defines}\b|^{defines} = "
    (block,) = (each for each in BLOCKS[name] if re.search(pattern, each.code, re.MULTILINE))
    RAN.add((name, block.line))
    return block


def run(name: str, defines: str, **given: Any) -> Any:
    """The block that defines this name, run as a module."""
    return find(name, defines).run(**given)


def rows_of(name: str) -> list[list[str]]:
    """The cells of the rows of a reference's first table."""
    table = re.search(r"(?:^\|.*\n)+", PATHS[name].read_text("utf-8"), re.MULTILINE)
    assert table
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def forever() -> Any:
    await asyncio.Event().wait()


@dataclass
class Ended:
    """A call that waits for ever, and remembers that it ended."""

    started: bool = False
    ended: bool = False

    async def __call__(self) -> Any:
        self.started = True
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            self.ended = True


@dataclass
class Busy:
    """Work that waits until it is let go, and counts how much of it runs at once."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    active: int = 0
    peak: int = 0
    done: int = 0

    async def __call__(self, *_: object) -> str:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await self.go.wait()
        finally:
            self.active -= 1
        self.done += 1
        return "done"


async def until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def turns(number: int = 20) -> None:
    """Let the loop turn, so that whatever can run has run."""
    for _ in range(number):
        await asyncio.sleep(0)
