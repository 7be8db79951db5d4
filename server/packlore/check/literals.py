"""Words that a text must hold for a regular expression to match in it. No I/O.

Read for Rust's syntax, which ast-grep speaks (https://docs.rs/regex/latest/regex/#syntax). What is
not plainly a word of the text gives none, so a text is asked once too often rather than never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Clauses = tuple[tuple[str, ...], ...]
"""Of each of these, a text must hold one word."""

_MOST = 20
"""Groups in one another."""
_CHARACTER = re.compile(r"\w", re.ASCII)
_GROUP = re.compile(r"\((?:\?(?:(?P<flags>[is]{0,2}):|P?<\w+>))?")
_FOLDS = re.compile(r"\(\?[a-z]{0,8}(?:x|i[a-z]{0,8}\))")
"""What follows folds case to its end, or is free to hold spaces and comments."""
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:[pPxuU]\{[^}]{0,40}\}|[pP]\w|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)", re.DOTALL
)
_REPEAT = re.compile(r"(?:[*+?]|\{\d*(?:,\d*)?\})[?+]?")


def required(regex: str) -> list[tuple[str, ...]]:
    """The clauses of a regular expression; none of a part that folds case, and none where it cannot
    be read here."""
    if _FOLDS.search(regex):
        return []
    regex = regex.removeprefix("(?s)")
    try:
        found, end = _alternatives(regex, 0, 0)
    except _OddError:
        return []
    return found if end == len(regex) else []


def one_of(ways: Sequence[Sequence[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """One word of each way, the longest that it needs: the rarest, most likely."""
    if not all(ways):
        return []
    chosen = [min(clauses, key=lambda one: (len(one), -len(one[0]))) for clauses in ways]
    return [tuple(dict.fromkeys(word for clause in chosen for word in clause))]


class _OddError(Exception):
    """What is not read here."""


def _alternatives(regex: str, at: int, depth: int) -> tuple[list[tuple[str, ...]], int]:
    """The clauses of what stands between here and the end of the group, and where it ends."""
    if depth > _MOST:
        raise _OddError
    ways: list[list[tuple[str, ...]]] = []
    while not ways or regex[at : at + 1] == "|":
        found, at = _sequence(regex, at + bool(ways), depth)
        ways.append(found)
    return (ways[0] if len(ways) == 1 else one_of(ways)), at


def _sequence(regex: str, at: int, depth: int) -> tuple[list[tuple[str, ...]], int]:
    """The clauses of what follows one another."""
    found: list[tuple[str, ...]] = []
    run = ""
    while at < len(regex) and regex[at] not in "|)":
        one = regex[at]
        inner: list[tuple[str, ...]] = []
        if one == "(":
            group = _GROUP.match(regex, at)
            if group is None or regex.startswith("?", group.end()):
                raise _OddError
            inner, at = _alternatives(regex, group.end(), depth + 1)
            inner = [] if "i" in (group["flags"] or "") else inner
            if regex[at : at + 1] != ")":
                raise _OddError
            at += 1
        else:
            at = _past(regex, at)
        repeat = _REPEAT.match(regex, at)
        if _CHARACTER.match(one):
            if repeat is None:
                run += one
                continue
            run += one if repeat[0][0] == "+" else ""
        found += [*_word(run), *([] if repeat and repeat[0][0] != "+" else inner)]
        run = ""
        at = repeat.end() if repeat else at
    return [*found, *_word(run)], at


def _past(regex: str, at: int) -> int:
    """Where the atom ends that begins here, and is no group."""
    one = regex[at]
    if one not in "[\\":
        if one in "*+?{":
            raise _OddError
        return at + 1
    match = _CLASS.match(regex, at) if one == "[" else _ESCAPE.match(regex, at)
    if match is None:
        raise _OddError
    if one == "[" and ("[" in match[0][1:].replace("[:", "") or "&&" in match[0]):
        raise _OddError  # a class within a class
    return match.end()


def _word(run: str) -> Iterator[tuple[str, ...]]:
    if run:
        yield (run,)
