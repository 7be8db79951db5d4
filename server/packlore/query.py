"""What somebody asks: a message, code, a task or words, reduced to what identifies it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packlore.smells import smells
from packlore.terms import is_han, terms

MAX_QUERY = 16 * 1024
"""Characters; of a longer query its two ends are read, where messages and questions stand."""
MAX_TERMS = 48
"""Distinct terms of a query; of a longer one the heaviest are kept."""

HAN = 0.4
"""What a pair of Chinese characters counts: a word is two or three of them."""

_NOISE = (
    re.compile(r"0x[0-9a-fA-F]{4,}"),  # addresses
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),  # UUIDs
    re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+){2,}[\\/]?"),  # paths
    re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?\S*"),  # times
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"),  # addresses of machines
    re.compile(r"\(Background on this error at: \S+\)|https?://\S+"),
    re.compile(r'^\s*File "[^"]*", line \d+, in .*$', re.MULTILINE),
    re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE),
)
_MESSAGE = re.compile(
    r"(?:\b[\w.]*(?:Error|Exception|ExceptionGroup|Warning|Greenlet|Interrupt)\b|\bERROR|"
    r"\bFATAL|\bWARNING)[^\n]*"
)
_CODE = re.compile(
    r"^\s*(?:import \w|from [\w.]+ import|(?:async )?def \w|class \w|@\w|return\b|await |with |"
    r"async (?:with|for) |for \w+ in |try:|except\b|[\w.\[\]]+ = |[\w.]+\([^)]*\)?:?$)",
    re.MULTILINE,
)
_COMMENT = re.compile(r"#\s*(.+)$|\"\"\"(.+?)\"\"\"", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """`weights` are the terms and how much each says."""

    weights: dict[str, float]
    code: bool
    message: bool


def read_query(raw: str) -> Query:
    """Reduce a query of any size, in time that is bounded by MAX_QUERY."""
    if len(raw) > MAX_QUERY:
        raw = f"{raw[: MAX_QUERY // 2]}\n{raw[-MAX_QUERY // 2 :]}"
    text = raw
    for pattern in _NOISE:
        text = pattern.sub(" ", text)
    code_lines = len(_CODE.findall(text))
    code = code_lines >= 2 and code_lines * 3 >= text.count("\n")
    messages = [] if code else _MESSAGE.findall(text)
    weights: dict[str, float] = {}
    for term, weight in _weighed(text, code=code, messages=messages):
        said = weight * HAN if is_han(term) else weight
        weights[term] = max(weights.get(term, 0.0), said)
    if len(weights) > MAX_TERMS:
        kept = sorted(weights, key=weights.__getitem__, reverse=True)[:MAX_TERMS]
        weights = {term: weights[term] for term in kept}
    return Query(weights, code, bool(messages))


def _weighed(text: str, *, code: bool, messages: list[str]) -> Iterator[tuple[str, float]]:
    if code:
        for match in _COMMENT.finditer(text):  # people say in comments what they ask
            yield from ((term, 1.0) for term in terms(match[1] or match[2]))
        for said in smells(text):
            yield from ((term, 1.0) for term in terms(said))
        yield from ((term, 0.7) for term in terms(_COMMENT.sub(" ", text)))
    elif messages:
        for message in messages:
            yield from ((term, 1.0) for term in terms(message))
        yield from ((term, 0.6) for term in terms(text))
    else:
        yield from ((term, 1.0) for term in terms(text))
