"""What the author of a pack asks for: its problems, and what derives from it.

Each package below reads its own part of a pack and says what is wrong there; here the parts meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from packlore.check import problems as of_detectors
from packlore.errors import PackError
from packlore.find import learn, model
from packlore.pack import Pack, Problem, build, lint, read, scaffold


def problems(pack: Pack) -> tuple[Problem, ...]:
    """All problems of a pack, those of reading it first."""
    return lint.lint(pack, also=(model.problems, of_detectors))


def derive(folder: Path, *, check: bool = False, asked: Sequence[Path] = ()) -> list[str]:
    """Write what derives from the pack in `folder`, its model too where there are files of
    queries that were `asked`; with `check` nothing. Answers with the paths that were stale,
    relative to `folder`."""
    also = [partial(learn.learn, asked=asked, check=check)] if asked else []
    return build.build(folder, check=check, also=also)


def init(folder: Path, name: str = "") -> scaffold.New:
    """Write a pack of one rule into `folder`, by default with the folder's name, and what derives
    from it. PackError, and nothing written, where one of its files is there already."""
    new = scaffold.starter(name or folder.resolve().name)
    scaffold.write(folder, new.files, also=("metadata.json",))
    derive(folder)
    return new


def add_rule(folder: Path, name: str) -> scaffold.New:
    """Write the rule `name` to fill in, and what goes with it, into the pack in `folder`.
    PackError, and nothing written, where one of the files is there already."""
    packs = read(folder)
    if len(packs) != 1 or packs[0].folder:
        raise PackError(f"{folder} is not a pack: give the folder that holds its SKILL.md")
    new = scaffold.new_rule(packs[0], folder, name)
    scaffold.write(folder, new.files)
    return new
