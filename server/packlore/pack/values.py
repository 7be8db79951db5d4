"""What a value of frontmatter means, whatever its type. No I/O."""

from __future__ import annotations

import re

MAX_TEXT = 2_000
"""Characters of one line of text: of a title, a symptom, a description."""
MAX_NAME = 200
"""Characters of a name that each list and each session begins with: of a pack, a category."""
_ODD = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that are not seen and do something: of terminals, of directions, tags. Not those that
join letters, which some scripts and pictures need. Halves of a pair are none at all, and no text
that holds one can be sent."""


def visible(text: str) -> str:
    """The text with what cannot be seen as escapes, but for tabs and line ends. What a stranger
    wrote would else move the cursor, set a title, or turn the text around.

    >>> visible("a\\x1b[2J\\u202eb")
    'a\\\\x1b[2J\\\\u202eb'
    """
    if text.isprintable():  # as most texts of one line are: the pattern costs more
        return text
    return _ODD.sub(lambda found: ascii(found[0])[1:-1], text)


def line(text: str) -> str:
    """Visible text on one line: a line end may be part of a file's name."""
    return visible(text).replace("\n", "\\n")


def string(value: object) -> str:
    """One line of visible text; empty for what is neither text nor number."""
    if not isinstance(value, (str, int, float)):
        return ""
    text = " ".join(str(value).split())
    return visible(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")


def name(value: object) -> str:
    """The same for what a pack or a category goes by."""
    return string(value)[:MAX_NAME].rstrip()


def strings(value: object, separator: str | None = ",") -> tuple[str, ...]:
    """A list of texts from a YAML list or from one text such as `a, b`."""
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list):
        return ()
    return tuple(text for each in value if (text := string(each)))
