"""What somebody asks: a message, code, a task or words, reduced to what identifies it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from packlore.find.terms import is_han, terms

MAX_QUERY = 16 * 1024
"""Characters; of a longer query its two ends are read, where messages and questions stand."""
MAX_TERMS = 48
"""Distinct terms of a query; of a longer one the heaviest are kept."""

HAN = 0.4
"""What a pair of Chinese characters counts: a word is two or three of them."""

# None of these may take more than linear time: what is asked is anything.
_NOISE = (
    re.compile(r"0x[0-9a-fA-F]{4,}"),  # addresses
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),  # UUIDs
    re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+){2,}[\\/]?"),  # paths
    re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?\S*"),  # times
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"),  # addresses of machines
    re.compile(r"\(Background on this error at: \S+\)|https?://\S+"),
    re.compile(r'\bFile "[^"]*", line \d+(?:, in [\w<>]+)?'),
    re.compile(r"Traceback \(most recent call last\):"),
)
_MESSAGE = re.compile(
    r"(?:(?<![\w.])[\w.]*(?:Error|Exception|ExceptionGroup|Warning|Interrupt)\b|(?<![\w.])(?:\w+\.)+[A-Z]\w+(?=:)|\bERROR|"
    r"\bFATAL|\bWARNING)[^\n]*"
)
_CODE = re.compile(
    r"^[ \t]*(?:import \w|from [\w.]+ import|(?:async )?def \w|class \w|@\w|return\b|await |with |"
    r"async (?:with|for) |for \w+ in |try:|except\b|[\w.\[\]]+ = |[\w.]+\([^)\n]*\)?:?$)",
    re.MULTILINE,
)
_NOTE = re.compile(r"(?:^|\s)#[ \t]+(.+)$", re.MULTILINE)
_FLAT_CODE = re.compile(
    r"\basync (?:def|with) |\bdef \w+\(|\bclass \w+[(:]|\bawait \w|\bimport \w|\w = \w|\w\([^()]*\)"
)
_LINE_START = re.compile(
    r"(?<!async)\s(?=async (?:def|with|for) |def |class |await |with |for \w+ in |try:|except\b|finally:|"
    r"raise\b|return\b|yield\b|while |import |from [\w.]+ import |@\w|# )"
)
_INDENT = re.compile(r":[ \t]{2,}|:[ \t](?=[\w.]{1,40}\()")
"""Where a line that opens a block ended: before more than one space, or before a call."""
_COMMENT = re.compile(r"#\s*(.+)$|\"\"\"(.+?)\"\"\"", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """`weights` are the terms and how much each says; `raw` is what was asked."""

    weights: dict[str, float]
    code: bool
    message: bool
    raw: str = ""


def is_code(raw: str) -> bool:
    """Whether what is asked is code, and not words about it or a message."""
    return reads_as_code(telling(raw))


def read_query(raw: str) -> Query:
    """Reduce a query of any size, in time that is bounded by MAX_QUERY."""
    text = telling(raw)
    code = reads_as_code(text)
    messages = [] if code else _MESSAGE.findall(text)
    weights: dict[str, float] = {}
    for term, weight in _weighed(text, code=code, messages=messages):
        said = weight * HAN if is_han(term) else weight
        weights[term] = max(weights.get(term, 0.0), said)
    if len(weights) > MAX_TERMS:
        kept = sorted(weights, key=weights.__getitem__, reverse=True)[:MAX_TERMS]
        weights = {term: weights[term] for term in kept}
    return Query(weights, code, bool(messages), raw)


@lru_cache(maxsize=8)  # one query is read for its words, its code and its features
def telling(raw: str) -> str:
    """What is read of a query: its two ends, with its lines, without addresses and times."""
    if len(raw) > MAX_QUERY:
        raw = f"{raw[: MAX_QUERY // 2]}\n{raw[-MAX_QUERY // 2 :]}"
    text = _unfolded(raw)
    for pattern in _NOISE:
        text = pattern.sub(" ", text)
    return text


def reads_as_code(text: str) -> bool:
    """The same of what `telling` left."""
    lines = len(_CODE.findall(text))
    return lines >= 2 and lines * 3 >= text.count("\n")


def _unfolded(text: str) -> str:
    """The text with its lines. What comes in one line, from a log or a program, has lost them, or
    has them as `\\n`."""
    if "\n" in text.strip():
        return text
    if "\\n" in text:
        return text.replace("\\n", "\n").replace('\\"', '"')
    if len(_FLAT_CODE.findall(text)) > 1:
        return _LINE_START.sub("\n", _INDENT.sub(":\n", text))
    return text


def _weighed(text: str, *, code: bool, messages: list[str]) -> Iterator[tuple[str, float]]:
    if code:
        for match in _COMMENT.finditer(text):  # people say in comments what they ask
            yield from ((term, 1.0) for term in terms(match[1] or match[2]))
        yield from ((term, 0.7) for term in terms(_COMMENT.sub(" ", text)))
    elif messages:
        for said in (*messages, *_NOTE.findall(text)):  # the note of the one who pastes it
            yield from ((term, 1.0) for term in terms(said))
        yield from ((term, 0.6) for term in terms(text))
    else:
        yield from ((term, 1.0) for term in terms(text))
