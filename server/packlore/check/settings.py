"""What a project says of checking: `[tool.packlore]` in its pyproject.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from packlore.check.files import whole
from packlore.check.model import Level
from packlore.errors import BadArgumentError

MAX_FILE, MAX_DOTS = 128 * 1024, 500
"""Bytes of a pyproject.toml, and dots of a line of it: to read a name of many parts, `a.b.c`, takes
tomllib the square of them."""
MAX_LISTED, MAX_TEXT = 200, 200
"""Texts of a list, and characters of one."""
NAMES = ("min-level", "select", "ignore", "exclude", "baseline", "hook")


@dataclass(frozen=True, slots=True)
class Settings:
    """`root` is the folder of the pyproject.toml, else the working folder: paths and globs are
    relative to it. `select` without a name means all rules. `hook` is false where nothing is to be
    said after edits."""

    root: Path
    min_level: Level | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    baseline: str = ""
    hook: bool = True


def load(folder: Path) -> Settings:
    """The settings of the nearest pyproject.toml at or above `folder`, up to the root of its
    repository. BadArgumentError for a name or a value that is none."""
    for each in (folder, *folder.parents):
        place = each / "pyproject.toml"
        if place.is_file():
            return _read(place)
        if (each / ".git").exists():
            break
    return Settings(folder)


def _read(place: Path) -> Settings:
    try:
        text = whole(place, MAX_FILE).decode("utf-8")
        tool = _tool(text) if "packlore" in text else {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadArgumentError(f"{place} cannot be read: {reason}") from error
    given = tool.get("packlore", {}) if isinstance(tool, dict) else {}
    where = f"[tool.packlore] in {place}"
    if not isinstance(given, dict):
        raise BadArgumentError(f"{where} is no table")
    if unknown := [each for each in given if each not in NAMES]:
        raise BadArgumentError(f"{where} has no {unknown[0][:40]!r}: it takes {', '.join(NAMES)}")
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("select", "ignore", "exclude"):
        value = given.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise BadArgumentError(f"{name} of {where} is no list of texts")
        if len(value) > MAX_LISTED or any(len(each) > MAX_TEXT for each in value):
            limit = f"over {MAX_LISTED} texts, or one of over {MAX_TEXT} characters"
            raise BadArgumentError(f"{name} of {where} has {limit}")
        lists[name] = tuple(value)
    level = given.get("min-level")
    known = Level.parse(level) if isinstance(level, str) else None
    if level is not None and known is None:
        raise BadArgumentError(f"min-level of {where} is none of hint, warning, error")
    baseline = given.get("baseline", "")
    if not isinstance(baseline, str):
        raise BadArgumentError(f"baseline of {where} is no path")
    if not _is_below(place.parent, baseline):
        raise BadArgumentError(f"baseline of {where} is not below its folder")
    hook = given.get("hook", True)
    if not isinstance(hook, bool):
        raise BadArgumentError(f"hook of {where} is neither true nor false")
    return Settings(place.parent, known, **lists, baseline=baseline, hook=hook)


def _is_below(folder: Path, path: str) -> bool:
    try:
        return Path(folder, path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # it holds a NUL, or is a link to itself
        return False


def _tool(text: str) -> object:
    if max(row.count(".") for row in text.split("\n")) > MAX_DOTS:
        raise ValueError(f"a line has over {MAX_DOTS} dots")
    return tomllib.loads(text).get("tool", {})
