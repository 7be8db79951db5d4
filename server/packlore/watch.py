"""Reads a pack again when its files change, for people who write rules."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from packlore.library import Library

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
    async for found in _looks(folders, interval):
        if found == seen:
            continue
        seen = found
        try:
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


async def _looks(folders: Sequence[Path], interval: float) -> AsyncIterator[object]:
    """The state of the folders after each interval, until the caller is cancelled."""
    for pause in itertools.repeat(interval):
        await anyio.sleep(pause)
        yield await anyio.to_thread.run_sync(_stamps, folders)


def _breaking(library: Library) -> set[str]:
    return {
        f"{problem.path}: {problem.code} {problem.message}"
        for pack in library.packs.values()
        for problem in pack.problems
        if problem.code.startswith(BREAKING)
    }


def _stamps(folders: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Each file's time of change and size."""
    return dict(stamp for folder in folders for stamp in _scan(str(folder)))


def _scan(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in ("node_modules", "__pycache__"):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _scan(entry.path)
                else:
                    yield entry.path, _stamp(entry)
    except OSError:
        return  # it went away while it was looked at: the next look tells


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # it went away, or is a link to nowhere
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _say(text: str) -> None:
    sys.stderr.write(f"packlore: {text}\n")
