"""A rule for a plain text, which ast-grep compiles in a fifth of the time: it does so for each text
anew. No I/O.

In a text of ASCII `\\w` is a letter, a digit or `_`, and `\\b` and `\\s` know no others; over all of
Unicode each is a table of its own, and so are a dot, `[^x]` and a letter in either case. A text of
few lines holds nothing of many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MEANS = {"w": "0-9A-Za-z_", "d": "0-9", "s": r" \t\n\r\x0b\x0c"}
_COUNT = re.compile(r"\^\(\?:\[\^\\n;\]\*\[\\n;\]\)\{(\d{1,9})\}")
"""So many ends of lines or statements, as the whole of a regular expression."""
_FLAGS = re.compile(r"\(\?([is]{1,2})\)")
_ATOM = re.compile(
    r"(?P<group>\((?:\?(?:(?P<flags>[is]{1,2}):|:|P?<\w{1,40}>)|(?!\?)))"
    r"|(?P<class>\[(?:\\.|[^\]\\])+\])|\\.|[^\[(\\]",
    re.DOTALL,
)
"""What a regular expression consists of."""
_MEMBER = re.compile(r"(?P<first>\\.|[^\\])(?:-(?P<last>\\.|[^\\]))?", re.DOTALL)
_NUMBERED = frozenset("xuUpP")
"""Escapes that give a character by number or class: which other case it has is not seen."""
_ANY, _LINE = r"[\x00-\x7f]", r"[\x00-\x09\x0b-\x7f]"
"""What a dot is in a text of ASCII, with the flag `s` and without."""
_BEYOND = r"\x80-\x{10ffff}"
_NEVER = r"[^\s\S]"
_WHOLE = 1 << 30
"""More ends than a text has."""


def plain(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The rule for a text of ASCII, and the ends of lines and statements that the text must have
    fewer of: there it matches the same."""
    counts = [_WHOLE]
    made: dict[str, Any] = _plain(dict(config), counts)
    return made, min(counts)


def ends(text: str) -> int:
    """The ends of lines and statements of a text; of one that is not ASCII more than any rule
    speaks of."""
    return text.count("\n") + text.count(";") if text.isascii() else _WHOLE


def _plain(given: Any, counts: list[int]) -> Any:
    if isinstance(given, list):
        return [_plain(each, counts) for each in given]
    if not isinstance(given, dict):
        return given
    made = {key: _plain(value, counts) for key, value in given.items()}
    regex = given.get("regex")
    if isinstance(regex, str):
        count = _COUNT.fullmatch(regex)
        if count:
            counts.append(int(count[1]))
        made["regex"] = _NEVER if count else _ascii(regex)
    return made


class _OddError(Exception):
    """A regular expression is not read here, and stays as it is."""


def _ascii(regex: str) -> str:
    """The regular expression with its classes, its dots and its folded letters written out."""
    try:
        return "".join(_written(regex))
    except (_OddError, IndexError):  # ast-grep has refused one with a `)` too many
        return regex


def _written(regex: str) -> Iterator[str]:
    leading = _FLAGS.match(regex)
    flags = [leading[1] if leading else ""]  # of the groups that are open
    at = leading.end() if leading else 0
    while at < len(regex):
        atom = _ATOM.match(regex, at)
        if atom is None:
            raise _OddError
        at = atom.end()
        if atom["group"]:
            flags.append(flags[-1] + (atom["flags"] or ""))
            yield "(?:" if atom["flags"] else atom[0]
        elif atom["class"]:
            yield _class(atom[0], "i" in flags[-1])
        elif atom[0] == ".":
            yield _ANY if "s" in flags[-1] else _LINE
        else:
            if atom[0] == ")":
                flags.pop()
            yield _one(atom[0], "i" in flags[-1])


def _one(atom: str, fold: bool) -> str:
    """One character or escape outside of a class."""
    if fold and not atom.isascii():
        raise _OddError  # the other case of such a letter may be ASCII
    if atom[0] == "\\":
        if atom == r"\b":
            return r"(?-u:\b)"
        if fold and atom[1:] in _NUMBERED:
            raise _OddError
        means = _MEANS.get(atom[1:].lower())
        if means is None:
            return atom
        return f"[{means}]" if atom[1:].islower() else f"[^{_BEYOND}{means}]"
    return f"[{atom.lower()}{atom.upper()}]" if fold and atom.isalpha() else atom


def _class(text: str, fold: bool) -> str:
    """A class in brackets."""
    if fold and not text.isascii():
        raise _OddError
    made: list[str] = []
    inner = text[1:-1]
    if inner.startswith("^"):
        # What is not ASCII is in no plain text: a class without it is compiled faster.
        made, inner = ["^", _BEYOND], inner[1:]
    if not inner or inner[0] == "]" or "[" in inner or "&&" in inner:
        raise _OddError  # a class in a class, or one that begins with its end
    for member in _MEMBER.finditer(inner):
        first, last = member["first"], member["last"]
        if last is None and first[1:] in _MEANS:
            if inner[member.end() : member.end() + 1] == "-":
                raise _OddError  # is it the beginning of a range?
            made.append(_MEANS[first[1:]])
            continue
        made.append(member[0])
        if not fold:
            continue
        if first[1:] in _NUMBERED or (last or "")[1:] in _NUMBERED:
            raise _OddError
        if last is None:
            made.append(first.swapcase() if first.isalpha() else "")
        elif first.isalpha() and last.isalpha() and first.islower() == last.islower():
            made.append(f"{first.swapcase()}-{last.swapcase()}")
        elif not (first.isdigit() and last.isdigit()):
            raise _OddError
    return f"[{''.join(made)}]"
