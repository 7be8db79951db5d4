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
_WILD = re.compile(r"((?:\*\*/)+|\*+|\?)")
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
    return any(_pattern(each).fullmatch(path) for each in globs)


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    text = glob.removeprefix("./").rstrip("/")
    if text.startswith("/"):
        text = text[1:]
    elif "/" not in text:
        text = f"**/{text}"
    parts = _WILD.split(text)
    known = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    made = "".join(
        known["**/"]
        if each.startswith("**/")
        else ".*"
        if "**" in each
        else known.get(each) or re.escape(each)
        for each in parts
    )
    return re.compile(rf"{made}(?:/.*)?", re.DOTALL)
