"""What has changed: the files and lines that a check with --diff or --staged looks at.

Git says what a file was. What is new in it is found here, between two texts that are read alike:
what a commit says of its files (attributes), their names and their line ends then hide nothing.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from packlore.check.git import git, rows
from packlore.check.sources import MAX_FILE, Source, shown, text_of
from packlore.errors import BadArgumentError

DEPTH = 16
"""How often what lies between lines that stayed is looked at anew."""
_FILES = ("100644", "100755", "120000")
"""The modes of files and links (https://git-scm.com/docs/git-fast-import#_filemodify)."""


@dataclass(frozen=True, slots=True)
class Changes:
    """A repository: the ids of its files in a commit, by their paths, and those of the next commit,
    where that is what is checked."""

    root: Path
    before: Mapping[str, str]
    after: Mapping[str, str] | None = None


def since(reference: str, folder: Path) -> Changes:
    """How the files now differ from a commit. BadArgumentError where there is no such commit, or
    no git."""
    if reference.startswith("-"):
        raise BadArgumentError(f"--diff {reference}: give a commit, a branch or a tag")
    root = _root(folder)
    return Changes(root, _commit(root, reference))


def staged(folder: Path) -> Changes:
    """What the next commit would change."""
    root = _root(folder)
    try:
        before = _commit(root, "HEAD")
    except BadArgumentError:  # the first commit: all is new
        before = {}
    after: dict[str, str] = {}
    for row in rows(git(root, "ls-files", "--stage", "-z")):
        (mode, name, stage), path = row.split("\t")[0].split(), row.partition("\t")[2]
        if stage == "0" and mode in _FILES[:2]:
            after[path] = name
    return Changes(root, before, after)


def changed(changes: Changes, source: Source) -> Source | None:
    """The file as it is to be checked; None where nothing in it has changed."""
    path = _path(changes, source)
    before = changes.before.get(path)
    if changes.after is not None:
        after = changes.after.get(path)
        if after is None or after == before:
            return None
        return replace(source, data=git(changes.root, "cat-file", "blob", after))
    return None if before and _is(source.place, before, changes.root) else source


def lines(changes: Changes, source: Source, text: str) -> frozenset[int] | None:
    """The lines of a changed file that are new, counted from 1; None for all of them."""
    path = _path(changes, source)
    before = changes.before.get(path)
    if before is None or _size(changes.root, before) > MAX_FILE:
        return None
    old = text_of(path, git(changes.root, "cat-file", "blob", before))
    return new_lines(old.split("\n"), text.split("\n")) if isinstance(old, str) else None


def new_lines(old: Sequence[str], new: Sequence[str]) -> frozenset[int]:
    """The lines of `new`, counted from 1, that do not stand in `old` in the same order.

    Lines that both have once stay (a patience diff), with their neighbours as far as these agree;
    then the same between them. It takes DEPTH times what sorting them does, at most: where it does
    not see that a line has stayed, the line counts as new."""
    stayed: set[int] = set()
    left = [(0, len(old), 0, len(new), DEPTH)]
    while left:
        a, a_end, b, b_end, depth = left.pop()
        while a < a_end and b < b_end and old[a] == new[b]:
            stayed.add(b)
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and old[a_end - 1] == new[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
            stayed.add(b_end)
        same = _same(old[a:a_end], new[b:b_end]) if depth else []
        if same:
            marks = [(a, b), *((a + one, b + other) for one, other in same), (a_end, b_end)]
            left += [
                (start, end, new_start, new_end, depth - 1)
                for (start, new_start), (end, new_end) in pairwise(marks)
            ]
    return frozenset(range(1, len(new) + 1)) - {each + 1 for each in stayed}


def _same(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The places of lines that both have once, as many as stand in the same order in both."""
    here, there = Counter(old), Counter(new)
    places = {line: at for at, line in enumerate(old) if here[line] == 1}
    pairs = [(places[line], at) for at, line in enumerate(new) if there[line] == 1 == here[line]]
    # The longest rising row: of each length so far the lowest end, and which pair is before each.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (at, _) in enumerate(pairs):
        length = bisect_left(ends, at)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [at]
        last[length : length + 1] = [number]
    found = []
    number = last[-1] if last else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def _root(folder: Path) -> Path:
    found = git(folder, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(found.removesuffix(b"\n").removesuffix(b"\r")))


def _path(changes: Changes, source: Source) -> str:
    """How git calls a file."""
    whole = Path(os.path.realpath(source.place.parent), source.place.name)
    return shown(whole, Path(os.path.realpath(changes.root)))


def _commit(root: Path, reference: str) -> dict[str, str]:
    """The ids of the files of a commit."""
    found = git(root, "ls-tree", "-r", "-z", "--full-tree", f"{reference}^{{commit}}")
    split = (each.partition("\t") for each in rows(found))
    named = ((head.split(), path) for head, _, path in split)
    return {path: name for (mode, _, name), path in named if mode in _FILES}


def _size(root: Path, name: str) -> int:
    return int(git(root, "cat-file", "-s", name))


def _is(place: Path, name: str, root: Path) -> bool:
    """Whether a file is what has that id, but for CRLF, as git may have written it."""
    try:
        if place.is_symlink():
            data = os.fsencode(os.readlink(place))  # noqa: PTH115 - a Path would say it otherwise
        elif not place.is_file():
            return False
        elif (size := place.stat().st_size) > MAX_FILE:
            return size == _size(root, name)
        else:
            data = place.read_bytes()
    except OSError:
        return False
    return name in (_name(data, name), _name(data.replace(b"\r\n", b"\n"), name))


def _name(data: bytes, like: str) -> str:
    """The id of a file in git, of the kind of another one
    (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    made = hashlib.new("sha1" if len(like) == 40 else "sha256", usedforsecurity=False)
    made.update(b"blob %d\0" % len(data) + data)
    return made.hexdigest()
