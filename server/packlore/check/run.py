"""Many files, on all cores. Each is checked by itself, and one that fails costs no other."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from packlore.check.model import Checked, Detector, Trouble
from packlore.check.scan import Detectors, scan
from packlore.check.sources import Source, read
from packlore.check.syntax import PYTHON, NoGrepError, language_of, tree

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

FEW = 64
"""Files that one process has checked before others have started."""
MOST = 60
"""Processes; Windows can wait for no more than 61."""
CHUNK = 32
"""Files that a process is given at once."""

_detectors = Detectors(())


def check(files: Sequence[Source], detectors: Detectors) -> Iterator[Checked]:
    """What is seen in each file, in their order. NoGrepError where code cannot be checked."""
    tree("", PYTHON)  # once, and not for each file
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    if len(files) <= FEW or (cores or 1) < 2 or not _is_heeded():
        yield from (one(each, detectors) for each in files)
        return
    workers = min(cores or 1, len(files) // CHUNK + 1, MOST)
    chunks = [files[at : at + CHUNK] for at in range(0, len(files), CHUNK)]
    while chunks:
        begun = 0
        with _pool(workers, detectors) as pool:
            for checked in _window(pool, chunks, 2 * workers):
                if checked is None:  # a file has ended its process
                    break
                begun += 1
                yield from checked
        chunks = chunks[begun:]
        if chunks:  # it is among those that were under way
            yield from _alone(
                [each for chunk in chunks[: 2 * workers] for each in chunk], detectors
            )
            chunks = chunks[2 * workers :]


def _window(
    pool: ProcessPoolExecutor, chunks: Sequence[Sequence[Source]], size: int
) -> Iterator[list[Checked] | None]:
    """What is seen in each chunk, in their order; None, at the end, where a process has ended. No
    more than `size` chunks are under way, so that no more are lost."""
    from concurrent.futures.process import BrokenProcessPool

    under_way = deque(pool.submit(_some, each) for each in chunks[:size])
    following = iter(chunks[size:])
    while under_way:
        try:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(_some, each) for each in islice(following, 1))
        except BrokenProcessPool:
            yield None
            return


def _is_heeded() -> bool:
    """Whether what PYTHONSAFEPATH says counts in the processes of a pool: `python -E` is handed on,
    and they would import modules from the current folder."""
    return bool(sys.flags.safe_path or not sys.flags.ignore_environment)


def one(source: Source, detectors: Detectors) -> Checked:
    """What is seen in one file."""
    text = read(source)
    if isinstance(text, Trouble):
        return Checked(source.path, trouble=text)
    try:
        return scan(source.path, text, language_of(source.path) or PYTHON, detectors)
    except NoGrepError:
        raise
    except Exception as error:  # noqa: BLE001 - one file never takes the rest down
        return Checked(source.path, trouble=failed(source.path, error))


def failed(path: str, error: BaseException) -> Trouble:
    """What is said of a file on which our own code, or ast-grep, stumbled."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return Trouble(path, f"not checked: {reason}")


def _take(detectors: tuple[Detector, ...]) -> None:
    global _detectors  # noqa: PLW0603 - what a process of the pool has for all its files
    _detectors = Detectors(detectors)


def _some(files: Sequence[Source]) -> list[Checked]:
    return [one(each, _detectors) for each in files]


def _pool(processes: int, detectors: Detectors) -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    context = get_context("forkserver" if os.name == "posix" else "spawn")
    return ProcessPoolExecutor(processes, context, _take, (detectors.all,))


def _alone(files: Iterable[Source], detectors: Detectors) -> Iterator[Checked]:
    """Each file in a process of its own."""
    from concurrent.futures.process import BrokenProcessPool

    for source in files:
        with _pool(1, detectors) as pool:
            try:
                yield from pool.submit(_some, [source]).result()
            except BrokenProcessPool as error:
                yield Checked(source.path, trouble=failed(source.path, error))
