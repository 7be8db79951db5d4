"""What the author of a pack asks for: its problems, and what derives from it.

Each package below reads its own part of a pack and says what is wrong there; here the parts meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from packlore.find import learn, vocabulary
from packlore.pack import Pack, Problem, build, lint


def problems(pack: Pack) -> tuple[Problem, ...]:
    """All problems of a pack, those of reading it first."""
    return lint.lint(pack, also=(vocabulary.problems,))


def derive(folder: Path, *, check: bool = False, asked: Sequence[Path] = ()) -> list[str]:
    """Write what derives from the pack in `folder`, its vocabulary too where there are files of
    queries that were `asked`; with `check` nothing. Answers with the paths that were stale,
    relative to `folder`."""
    also = [partial(learn.learn, asked=asked)] if asked else []
    return build.build(folder, check=check, also=also)
