"""Text of a pack on its way to a terminal: nothing in it may move the cursor or turn a line."""

from __future__ import annotations

import re

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and line end, and those that turn the direction of a line."""


def visible(text: str) -> str:
    r"""`text` with each such character as its escape, which JSON reads as the character again.

    >>> visible("\x1b[2J\u202e")
    '\\u001b[2J\\u202e'
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def line(text: str) -> str:
    """The same as one line: a line end may be part of a file's name."""
    return visible(text).replace("\n", "\\n")
