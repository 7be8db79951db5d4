"""A rule for a plain text, which ast-grep compiles in a fifth of the time: it does so for each text
anew. No I/O.

In a text of ASCII `\\w` is a letter, a digit or `_`, and `\\b` and `\\s` know no others; over all of
Unicode each is a table of its own. A text of few lines holds nothing of many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MEANS = {"w": "0-9A-Za-z_", "d": "0-9", "s": r" \t\n\r\x0b\x0c"}
_COUNT = re.compile(r"\^\(\?:\[\^\\n;\]\*\[\\n;\]\)\{(\d{1,9})\}")
"""So many ends of lines or statements, as the whole of a regular expression."""
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


def _ascii(regex: str) -> str:
    """The regular expression with its classes written out; in a class without its brackets."""
    made: list[str] = []
    inside = False
    at = 0
    while at < len(regex):
        one = regex[at : at + 2] if regex[at] == "\\" else regex[at]
        at += len(one)
        if one[1:] in _MEANS:
            if inside and regex[at : at + 1] == "-":
                return regex  # is it the beginning of a range?
            one = _MEANS[one[1:]] if inside else f"[{_MEANS[one[1:]]}]"
        elif one == r"\b" and not inside:
            one = r"(?-u:\b)"
        elif one == "[":
            if inside or regex[at : at + 1] == "]" or regex[at : at + 2] == "^]":
                return regex  # a class in a class, or one that begins with its end
            inside = True
        elif one == "]":
            inside = False
        made.append(one)
    return "".join(made)
