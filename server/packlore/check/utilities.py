"""The files of detectors, and the utility rules that detectors share. No opinion on what a detector
must say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packlore.check.syntax import language
from packlore.pack import Pack, PackFile, Problem, visible
from packlore.pack import documents as read_all

UTILITIES = "assets/_utils/"
"""Where a pack keeps the utility rules that its detectors share, one in each file; `sgconfig.yml`
names the folder for ast-grep itself."""
MAX_FILE = 64 * 1024
"""Bytes of a file of detectors."""


def documents(file: PackFile, problems: list[Problem]) -> Iterator[object]:
    """The YAML documents of a file; those up to the one that cannot be read."""
    if len(file.data) > MAX_FILE:
        message = f"left out: {len(file.data):,} bytes, and at most {MAX_FILE:,} are read"
        problems.append(Problem(file.path, 1, "detector", message))
        return
    try:
        yield from read_all(file.data.decode("utf-8"))
    except Exception as error:  # noqa: BLE001 - PyYAML lets through what its constructors raise
        mark = getattr(error, "problem_mark", None)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        message = f"left out: not readable as YAML: {visible(reason)}"
        problems.append(Problem(file.path, mark.line + 1 if mark else 1, "detector", message))


def utilities(pack: Pack, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """The shared utility rules by language and id."""
    found: dict[str, dict[str, Any]] = {}
    for file in pack.files:
        if not file.path.startswith(UTILITIES) or not file.path.endswith(".yml"):
            continue
        for given in documents(file, problems):
            name = language(str(given.get("language"))) if isinstance(given, dict) else None
            if name and isinstance(given, dict) and isinstance(given.get("id"), str):
                found.setdefault(name, {})[given["id"]] = given.get("rule")
            else:
                message = "left out: a utility has an id, a language and a rule"
                problems.append(Problem(file.path, 1, "detector", message))
    return found


def used(config: object, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of the utilities, those that a rule names, and those that these name: one that ast-grep
    refuses costs no other rule."""
    found: dict[str, Any] = {}
    left = [config]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            name = each.get("matches")
            if isinstance(name, str) and name in known and name not in found:
                found[name] = known[name]
                left.append(known[name])
            left += each.values()
        elif isinstance(each, list):
            left += each
    return found


def walks_siblings(config: object, depth: int) -> bool:
    """Whether a rule looks at all siblings of a node: over many of them that is quadratic."""
    if depth > 50:  # ast-grep will say so
        return False
    if isinstance(config, dict):
        for key, value in config.items():
            far = isinstance(value, dict) and value.get("stopBy", "neighbor") != "neighbor"
            if (key in ("follows", "precedes") and far) or walks_siblings(value, depth + 1):
                return True
    return isinstance(config, list) and any(walks_siblings(each, depth + 1) for each in config)


def turns(config: Mapping[str, Any], root: str = "") -> int:
    """How often a rule looks up the tree and, from there, down again, one within the other: each
    time it may look at the whole file, so that its time grows by one more power of the size. What
    is asked of the whole file, whose kind is `root`, is asked once (lookups.py)."""
    known = config.get("utils") or {}
    counted: dict[tuple[str, bool], int] = {}

    def count(given: object, up: bool) -> int:
        if isinstance(given, list):
            return max((count(each, up) for each in given), default=0)
        if not isinstance(given, dict):
            return 0
        return max((named(key, value, up) for key, value in given.items()), default=0)

    def named(key: object, value: object, up: bool) -> int:
        match key:
            case "inside" if root and isinstance(value, dict) and value.get("kind") == root:
                return count(value, False)
            case "inside":
                return count(value, True)
            case "has":
                return up + count(value, False)
            case "nthChild":  # among its siblings
                return 1 + count(value, False)
            case "matches" if isinstance(value, str):
                if (value, up) not in counted:
                    counted[value, up] = 0  # one that names itself is refused by ast-grep
                    counted[value, up] = count(known.get(value), up)
                return counted[value, up]
            case _:
                return count(value, up)

    return count({key: value for key, value in config.items() if key != "utils"}, False)
