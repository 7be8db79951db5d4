"""From the text of a file that pins or asks for packages to what it says of each. No I/O.

The TOML of a lock is read line by line: its tables are written by programs, in one form, and
`tomllib` takes half a second for a lock of 400 packages, which each `packlore search` would pay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packlore.project.versions import Range, Version, normal, ranged

MAX_VERSION = 40
"""Characters of a version that is told."""
MAX_DOTS = 500
"""Dots in one line of TOML: `tomllib` takes quadratic time for a key of many parts."""
_TABLE = re.compile(r"\[\[packages?\]\]\s*")
_ENTRY = re.compile(r"""(name|version) ?= ?["']([^"'\\]{1,200})["']\s*""")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_OPTIONS = re.compile(r"[ \t]--?[a-z]")
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z\d][\w.-]{0,80}+)[ \t]{0,9}+(?:\[[^\[\]]{0,300}+\])?[ \t]{0,9}+"
    r"\(?(?P<range>[<>=!~][^;@()]{0,300}+)\)?[ \t]{0,9}+(?:;.*)?",
    re.ASCII,
)
_PYTHON = re.compile(r"(?:cpython-|python-)?(\d{1,2}\.\d[\w.]{0,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Known:
    """What a file says of a package: the versions that it pins, of which one is installed, or the
    ranges that it asks for."""

    file: str
    versions: tuple[str, ...] = ()
    asked: tuple[Range, ...] = ()


Packages = dict[str, Known]
"""By the names that PEP 503 compares."""


def toml(text: str, file: str) -> Packages:
    """uv.lock, poetry.lock, pdm.lock, and pylock.toml of PEP 751."""
    return _pinned(_tables(text), file)


def _tables(text: str) -> Iterator[tuple[str, str]]:
    inside, name = False, ""
    for line in text.split("\n"):
        if line[:1] == "[":
            inside, name = bool(_TABLE.fullmatch(line)), ""
        elif inside and line[:1] in "nv" and (entry := _ENTRY.fullmatch(line)):
            if entry[1] == "name":
                name = entry[2]
            elif name:
                yield name, entry[2]


def pipenv(text: str, file: str) -> Packages:
    """Pipfile.lock. ValueError or RecursionError where it is no JSON."""
    known = json.loads(text)
    groups = known.values() if isinstance(known, dict) else ()
    return _pinned(
        (
            (name, each["version"].removeprefix("=="))
            for group in groups
            if isinstance(group, dict)
            for name, each in group.items()
            if isinstance(each, dict) and isinstance(each.get("version"), str)
        ),
        file,
    )


def requirements(text: str, file: str) -> Packages:
    """A file of requirements, by hand or as pip-compile and `pip freeze` write it. What a marker
    says is not asked: of several pins one is installed."""
    joined = text.replace("\r\n", "\n").replace("\\\n", " ")
    lines = (_COMMENT.sub("", each).strip() for each in joined.split("\n"))
    asked: list[tuple[str, Range]] = []
    pins: list[tuple[str, str]] = []
    for line in lines:
        name, wanted = requirement(_OPTIONS.split(line, maxsplit=1)[0])
        if len(wanted) == 1 and wanted[0].sign in ("==", "===") and not wanted[0].every:
            pins.append((name, wanted[0].text.lstrip("=")))
        elif wanted:
            asked.append((name, wanted))
    return {**_asking(asked, file), **_pinned(pins, file)}


def requirement(text: str) -> tuple[str, Range]:
    """The name and the range of one requirement, as PEP 508 writes it; empty where there is none."""
    found = _REQUIREMENT.fullmatch(text.strip())
    return (found["name"], ranged(found["range"])) if found else ("", ())


def python(text: str, file: str) -> Packages:
    """.python-version: the first that names two numbers."""
    for line in text.split("\n"):
        if found := _PYTHON.fullmatch(line.strip()):
            return _pinned([("python", found[1])], file)
    return {}


def project(text: str, file: str) -> Packages:
    """pyproject.toml, of the standard and of poetry. ValueError or RecursionError where it is no
    TOML, or has a line of too many dots."""
    import tomllib

    if any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise ValueError
    known = tomllib.loads(text)
    own, poetry = _table(known, "project"), _table(known, "tool", "poetry")
    lists = [
        own.get("dependencies"),
        *_table(own, "optional-dependencies").values(),
        *_table(known, "dependency-groups").values(),
    ]
    texts = [each for some in lists if isinstance(some, list) for each in some]
    asked = [requirement(each) for each in texts if isinstance(each, str)]
    groups = [_table(each) for each in _table(poetry, "group").values()]
    for group in (poetry, *groups):
        for name, given in _table(group, "dependencies").items():
            value = given.get("version") if isinstance(given, dict) else given
            asked.append((name, ranged(value, "==") if isinstance(value, str) else ()))
    version = own.get("requires-python")
    if isinstance(version, str):
        asked.append(("python", ranged(version)))
    return _asking(asked, file)


def _table(known: object, *names: str) -> dict[str, object]:
    for name in names:
        known = known.get(name) if isinstance(known, dict) else None
    return known if isinstance(known, dict) else {}


def _asking(asked: Iterable[tuple[str, Range]], file: str) -> Packages:
    """By name what is asked for; a package without a range is left out."""
    found: dict[str, list[Range]] = {}
    for name, wanted in asked:
        if wanted and (known := normal(name)):
            found.setdefault(known, []).append(wanted)
    return {name: Known(file, asked=tuple(ranges)) for name, ranges in found.items()}


def _pinned(pins: Iterable[tuple[str, str]], file: str) -> Packages:
    found: dict[str, dict[str, None]] = {}
    for name, version in pins:
        told = len(version) <= MAX_VERSION and Version.parse(version)
        if told and (known := normal(name)):
            found.setdefault(known, {})[version] = None
    return {name: Known(file, versions=tuple(versions)) for name, versions in found.items()}
