"""What a query is made of, as numbers that a model can weigh. No I/O.

Words, pairs of neighbours, stems, parts of words and shapes of code, each as a 32-bit hash: parts
of words are what a misspelt word, an inflected one and a language without spaces still share with
those that a model was taught.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from zlib import crc32

from packlore.find.query import reads_as_code, telling
from packlore.find.shapes import shapes
from packlore.find.terms import terms

VERSION = 1
"""Of what is made of a text: a model knows the features of one version."""
MAX_WORDS = 240
"""Words that are looked at, half of them at the end: a message stands there."""
MAX_WORD = 24
"""Characters of a word."""
PARTS = range(3, 6)
"""Lengths of the parts of a word, the spaces around it included."""

_WORD = re.compile(r"[^\W_]+")


def features(raw: str) -> list[int]:
    """The features of a text, each once."""
    return list(dict.fromkeys(map(crc32, _features(raw))))


def _features(raw: str) -> Iterator[bytes]:
    text = telling(raw)
    words = [word[:MAX_WORD] for word in _WORD.findall(text.lower())]
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS // 2] + words[-MAX_WORDS // 2 :]
    for word in dict.fromkeys(words):
        yield _bytes(f"={word}")
        yield from _parts(f" {word} ")
    yield from map(_bytes, (f"{first} = {second}" for first, second in pairwise(words)))
    yield from map(_bytes, (f"~{term}" for term in terms(" ".join(words))))
    if reads_as_code(text):
        yield from map(_bytes, (f">{shape}" for shape in shapes(text)))


def _parts(padded: str) -> Iterator[bytes]:
    """The parts of a word. Of one that is ASCII, each byte is a character."""
    whole = padded.encode() if padded.isascii() else b""
    for size in PARTS:
        for at in range(len(padded) - size + 1):
            end = at + size
            yield whole[at:end] if whole else _bytes(padded[at:end])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
