"""The detectors of a pack: `rules/<id>.yml`, one or more rules of ast-grep in each.

They are data. A detector that cannot be read, or that ast-grep refuses, is a Problem and is left
out; the others stay. `metadata` is free in ast-grep, and ours says what its language cannot: see
`Detector`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from packlore.check.lookups import FORM, is_odd
from packlore.check.model import Detector, Level
from packlore.check.syntax import CHECKED, available, language, reason_against, root_kind
from packlore.check.utilities import documents, turns, used, utilities, walks_siblings
from packlore.pack import Pack, Problem, visible

MAX_DETECTORS = 400
"""Detectors of a pack."""
MAX_GLOB, MAX_STARS = 200, 6
"""Characters and stars of a glob: with each star a search for it takes more."""
MAX_TURNS = 2
"""See `turns`. What a detector has with two is bounded by what its kinds leave of a file; of those
that name no kind, each takes the time of one by the number of nodes once more."""
MAX_TEXT = 300
"""Characters of a message or a note: each is a line."""
KEYS = frozenset(
    [
        "id",
        "language",
        "severity",
        "message",
        "note",
        "url",
        "rule",
        "constraints",
        "utils",
        "transform",
        "fix",
        "rewriters",
        "labels",
        "files",
        "ignores",
        "metadata",
    ]
)
"""What a rule file of ast-grep may say (https://ast-grep.github.io/reference/yaml.html)."""
_GIVEN = ("rule", "constraints", "transform")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


class _RefusedError(Exception):
    """A detector, or its file, is left out; the text is what the Problem says."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def detectors(pack: Pack) -> tuple[tuple[Detector, ...], tuple[Problem, ...]]:
    """All detectors of a pack that can be used, and what is wrong with others. Where ast-grep is
    missing, what only it can tell is not told."""
    found: list[Detector] = []
    problems: list[Problem] = []
    shared = utilities(pack, problems)
    rules = {rule.id for rule in pack.rules}
    for file in pack.files:
        where = PurePosixPath(file.path)
        if where.parts[0] != "rules" or where.suffix != ".yml" or where.stem not in rules:
            continue
        for number, given in enumerate(documents(file, problems), start=1):
            try:
                found.append(_detector(given, where.stem, shared, found))
            except _RefusedError as refused:
                problems.append(_problem(file.path, refused, number))
            except Exception as error:  # noqa: BLE001 - one detector costs no other, whatever it is
                said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                problems.append(_problem(file.path, _RefusedError("detector", said), number))
    return _agreeing(found, problems), tuple(problems)


def check(pack: Pack) -> Iterator[Problem]:
    """The problems of a pack's detectors, as `lint` asks for them."""
    yield from detectors(pack)[1]


def _problem(path: str, refused: _RefusedError, number: int) -> Problem:
    which = f"detector {number}: " if number > 1 else ""
    return Problem(path, 1, refused.code, f"left out: {which}{visible(str(refused))}")


def _detector(
    given: object,
    rule: str,
    shared: Mapping[str, Mapping[str, Any]],
    others: Sequence[Detector],
) -> Detector:
    if len(others) >= MAX_DETECTORS:
        raise _RefusedError("detector", f"a pack has at most {MAX_DETECTORS} detectors")
    if not isinstance(given, dict):
        raise _RefusedError("detector", "not a mapping of id, language, message, note and rule")
    if unknown := sorted(str(each)[:40] for each in given if each not in KEYS):
        raise _RefusedError("detector-key", f"unknown key {', '.join(unknown[:5])}")
    texts = {key: _text(given, key) for key in ("id", "language", "message", "note")}
    if texts["id"] != rule and not texts["id"].startswith(f"{rule}-"):
        raise _RefusedError("detector-id", f"its id is {rule}, or begins with {rule}-")
    if any(each.id == texts["id"] for each in others):
        raise _RefusedError("detector-id", f"the id {texts['id']!r} is taken")
    name = language(texts["language"])
    if name is None:
        raise _RefusedError("detector-language", f"unknown language {texts['language'][:40]!r}")
    if name not in CHECKED:
        message = f"{name} is not checked here, but {', '.join(sorted(CHECKED))}"
        raise _RefusedError("detector-language", message)
    level = Level.parse(str(given.get("severity", "hint")))
    if level is None:
        raise _RefusedError("detector-level", "severity is none of error, warning, hint")
    config = {key: given[key] for key in _GIVEN if key in given}
    own = given.get("utils") or {}
    if not isinstance(own, dict):
        raise _RefusedError("detector", "utils is not a mapping")
    if needed := used(config, {**shared.get(name, {}), **own}):
        config["utils"] = needed
    if walks_siblings(config, 0):
        message = "follows and precedes look at the neighbour only; use has in what holds both"
        raise _RefusedError("detector-siblings", message)
    root = root_kind(name) if available() else ""
    if (found := turns(config, root)) > MAX_TURNS:
        message = f"it looks up and down again {found} times within each other, at most {MAX_TURNS}"
        raise _RefusedError("detector-turns", message)
    if available() and (reason := reason_against(config, name)):
        raise _RefusedError("detector", f"ast-grep: {reason}")
    if available() and is_odd(config, root):
        raise _RefusedError("detector-lookup", FORM)
    metadata = given.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise _RefusedError("detector", "metadata is not a mapping")
    return Detector(
        id=texts["id"],
        rule=rule,
        language=name,
        level=level,
        message=texts["message"],
        note=texts["note"],
        config=config,
        names=_names(metadata.get("names") or {}),
        at=str(metadata.get("at") or ""),
        files=_globs(given, "files"),
        ignores=_globs(given, "ignores"),
    )


def _text(given: Mapping[Any, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _RefusedError("detector", f"{key} is missing, or is no text")
    line = " ".join(value.split())
    if len(line) > MAX_TEXT:
        raise _RefusedError("detector", f"{key} has {len(line)} characters, at most {MAX_TEXT}")
    return visible(line)


def _globs(given: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    value = given.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _RefusedError("detector", f"{key} is not a list of globs")
    if any(len(each) > MAX_GLOB or each.count("*") > MAX_STARS for each in value):
        message = f"a glob of {key} has over {MAX_GLOB} characters or {MAX_STARS} stars"
        raise _RefusedError("detector", message)
    return tuple(value)


def _names(given: object) -> dict[str, str]:
    """Qualified names by how the patterns spell them, turned round; a list spells each as it is."""
    if isinstance(given, list):
        given = {each: each for each in given if isinstance(each, str)}
    if not isinstance(given, dict):
        raise _RefusedError("detector", "metadata.names is a list, or a mapping of names to names")
    names: dict[str, str] = {}
    for spelled, meant in given.items():
        for each in meant if isinstance(meant, list) else [meant]:
            if not all(isinstance(one, str) and _NAME.fullmatch(one) for one in (spelled, each)):
                raise _RefusedError("detector", f"metadata.names has no name {str(each)[:40]!r}")
            names[each] = spelled
    return names


def _agreeing(found: list[Detector], problems: list[Problem]) -> tuple[Detector, ...]:
    """Those that spell names as the first that has them: names are rewritten once for all."""
    spelled: dict[str, str] = {}
    kept: list[Detector] = []
    for each in found:
        odd = [
            name
            for name in each.names
            if spelled.setdefault(name, each.names[name]) != each.names[name]
        ]
        if odd:
            other = f"{each.names[odd[0]]}, and another detector as {spelled[odd[0]]}"
            refused = _RefusedError("detector-names", f"{each.id} spells {odd[0]} as {other}")
            problems.append(_problem(f"rules/{each.rule}.yml", refused, 1))
            continue
        kept.append(each)
    return tuple(kept)
