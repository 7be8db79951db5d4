"""Text to search terms, the same way for what is indexed and what is asked. No I/O.

A term is a lower-case word; an identifier such as `pool_pre_ping` or `AsyncSession` gives itself
and its parts. Chinese, which has no spaces, gives each pair of neighbouring characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_WORD = re.compile(r"[^\W\d]\w*|\d{3,5}\b|[\u3400-\u9fff]+", re.UNICODE)
_HAN = re.compile(r"[\u3400-\u9fff]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]+|[a-z0-9]+")
_NOISE = (
    re.compile(r"0x[0-9a-fA-F]{4,}"),  # addresses
    re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w.@+-]+){2,}[\\/]?"),  # paths
    re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?\b"),  # times
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),  # UUIDs
)
MAX_WORD = 64
"""Characters; a longer run of letters is no word (base64, hashes)."""


def without_noise(text: str) -> str:
    """`text` without what differs between two prints of one message."""
    for pattern in _NOISE:
        text = pattern.sub(" ", text)
    return text


def terms(text: str) -> Iterator[str]:
    """The terms of `text` in its order, repeated as they are in it."""
    for match in _WORD.finditer(text):
        yield from _forms(match[0])


@lru_cache(maxsize=65536)
def _forms(word: str) -> tuple[str, ...]:
    if len(word) > MAX_WORD:
        return ()
    if _HAN.match(word):
        return tuple(word[i : i + 2] for i in range(len(word) - 1)) or (word,)
    han = _HAN.findall(word)
    if han:  # Latin and Chinese without a space between them
        rest = _HAN.sub(" ", word).split()
        return tuple(form for part in (*rest, *han) for form in _forms(part))
    lower = word.lower().strip("_")
    parts = [part.lower() for part in _CAMEL.findall(word)]
    if len(parts) < 2 or not word.isascii():
        return (lower,) if lower else ()
    return (lower, *(part for part in parts if len(part) > 1))
