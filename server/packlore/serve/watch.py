"""Reads a pack again when its files change, for people who write rules."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from packlore.library import Library
from packlore.pack import files, visible

INTERVAL = 0.5
"""Seconds between two looks at the files. Looking needs no library and works on every system."""
BREAKING = ("frontmatter-", "encoding", "empty", "no-skill", "unreadable", "file-size")
"""Problems of an edit that is not finished; the last good snapshot stays until they are gone."""

Replace = Callable[[Library], Awaitable[None]]


@asynccontextmanager
async def watching(
    folders: Sequence[Path], library: Library, replace: Replace, interval: float = INTERVAL
) -> AsyncIterator[None]:
    """While the body runs, give `replace` a new library after each change that reads well."""
    seen = await anyio.to_thread.run_sync(_stamps, folders)
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, folders, library, replace, interval, seen)
        yield
        group.cancel_scope.cancel()


async def _watch(
    folders: Sequence[Path], good: Library, replace: Replace, interval: float, seen: object
) -> None:
    for pause in itertools.repeat(interval):
        await anyio.sleep(pause)
        try:
            found = await anyio.to_thread.run_sync(_stamps, folders)
            if found == seen:
                continue
            seen = found
            fresh = await anyio.to_thread.run_sync(Library.open, folders)
        except Exception as error:  # noqa: BLE001 no edit may end the server
            _say(f"kept the last good state: {error}")
            continue
        broken = sorted(_breaking(fresh) - _breaking(good))
        if broken:
            _say(f"kept the last good state: {broken[0]}")
            continue
        await replace(fresh)
        good = fresh
        _say(f"read again: {sum(1 for _ in fresh.rules())} rules")


def _breaking(library: Library) -> set[str]:
    return {
        f"{problem.path}: {problem.code} {problem.message}"
        for pack in library.packs.values()
        for problem in pack.problems
        if problem.code.startswith(BREAKING)
    }


def _stamps(folders: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """The time of change and the size of each file that is read."""
    return {path: _stamp(path) for folder in folders for path in files(folder)}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # it went away, or is a link to nowhere
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _say(text: str) -> None:
    sys.stderr.write(f"packlore: {visible(text)}\n")
