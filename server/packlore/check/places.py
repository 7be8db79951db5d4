"""What kind of file a path names. Faults in tests, scripts and migrations cost less, and what is
odd in a service is often meant there."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

Place = Literal["", "test", "script", "migration", "notebook"]

_TESTS = frozenset({"test", "tests", "testing", "__tests__", "spec", "specs", "e2e"})
_SCRIPTS = frozenset(
    {"script", "scripts", "tool", "tools", "bin", "bench", "benchmark", "benchmarks", "doc", "docs"}
    | {"docs_src", "demo", "demos", "example", "examples", "sample", "samples", "hack", "cookbook"}
)
_MIGRATIONS = frozenset({"migration", "migrations", "versions"})
_STARS = re.compile(r"\*+")
_TEST_FILE = re.compile(r"(?:test_.*|.*_test|conftest|.*\.(?:test|spec))\.[a-z]+")


def place(path: str) -> Place:
    """`path` is relative, with `/`: the folder that is checked may itself lie among tests."""
    where = PurePosixPath(path.lower())
    folders = set(where.parts[:-1])
    if where.suffix == ".ipynb":
        return "notebook"
    if folders & _TESTS or _TEST_FILE.fullmatch(where.name):
        return "test"
    if folders & _MIGRATIONS:
        return "migration"
    return "script" if folders & _SCRIPTS else ""


def matches(path: str, globs: tuple[str, ...]) -> bool:
    """Whether one of the globs is that of `path`: `**` crosses folders, `*` does not; one without
    a `/` is a name in any folder, and one that names a folder holds all that is in it."""
    names = path.split("/")
    return any(_holds(_parts(each), names) for each in globs)


def _holds(parts: tuple[re.Pattern[str] | None, ...], names: list[str]) -> bool:
    """Whether the parts of a glob name a file or a folder above it; each name is looked at once
    for each part, whatever the glob."""
    at = {0}  # how many parts the names so far may have used
    for name in names:
        beyond = _beyond(at, parts)
        if len(parts) in beyond:
            return True
        at = {
            each if part is None else each + 1
            for each in beyond
            if (part := parts[each]) is None or part.fullmatch(name)
        }
    return len(parts) in _beyond(at, parts)


def _beyond(at: set[int], parts: tuple[re.Pattern[str] | None, ...]) -> set[int]:
    """These places in a glob, and those after a `**`, which may stand for no folder."""
    return at | {each + 1 for each in at if each < len(parts) and parts[each] is None}


@lru_cache(maxsize=512)
def _parts(glob: str) -> tuple[re.Pattern[str] | None, ...]:
    """What each name of a path is to be; None for `**`, which is any number of folders."""
    names = glob.removeprefix("./").strip("/").split("/")
    if len(names) == 1 and "/" not in glob.rstrip("/"):
        names = ["**", *names]
    if names[-1] == "**":  # all that is in a folder, and not the folder
        names[-1] = "*"
    kept = (
        each
        for each, before in zip(names, ["", *names], strict=False)
        if each != "**" or before != "**"
    )
    return tuple(None if each == "**" else _name(each) for each in kept)


def _name(glob: str) -> re.Pattern[str]:
    """A pattern for one name. What stands between two stars is taken where it comes first, and for
    good, since a later place would leave less to what follows."""
    first, *rest = (
        "".join("." if each == "?" else re.escape(each) for each in piece)
        for piece in _STARS.split(glob)
    )
    between = "".join(f"(?>.*?{each})" for each in rest[:-1])
    return re.compile(first + between + "".join(f".*{each}" for each in rest[-1:]), re.DOTALL)
