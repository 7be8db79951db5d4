"""What code shows by its shape: what is called inside of what. No I/O.

A fault in code is often a matter of where something stands: a query in a loop, a yield in a
timeout, an await in `finally`. Such pairs are features that a pack's model can learn; what they
mean is known to the pack alone. Read by lines and their indentation, so half of a function and a
line with a mistake in it will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LINES = 400
"""Lines of code that are looked at."""
MAX_LINE = 400
"""Characters of a line: with it the time for a query is bounded."""
MAX_DEPTH = 8
"""Blocks within each other; the innermost are looked at."""

_BLOCK = re.compile(
    r"(?:async +)?(?P<word>for|while|with|try|except\*?|finally|else|elif|if|def|class)\b(?P<rest>.*)"
)
_CALL = re.compile(r"\b\d*+([^\W\d]\w*+)\(")
_NAME = re.compile(r"[^\W\d]\w*")
_FRESH = re.compile(r"(?:async +)?def\b|class\b|@")
_SAID = re.compile(r"\b(?:await|yield|return|raise|continue|break|pass)\b")


def shapes(code: str) -> Iterator[str]:
    """Terms such as `for>execute` and `with timeout>yield`, each as often as it is seen. Code that
    has lost its indentation is taken to be in all that stands above it in its function."""
    lines = [line[:MAX_LINE].rstrip() for line in code.split("\n")[:MAX_LINES]]
    flat = not any(line[:1] in (" ", "\t") for line in lines)
    above: list[tuple[int, str]] = []
    for line in lines:
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        indent = len(above) if flat and not _FRESH.match(text) else len(line) - len(text)
        while above and above[-1][0] >= indent:
            above.pop()
        told = sorted({*_CALL.findall(text), *_SAID.findall(text)})
        for _, outer in above[-MAX_DEPTH:]:
            yield from (f"{outer}>{each}" for each in told)
        above += [(indent, head) for head in _heads(text)]


def _heads(text: str) -> Iterator[str]:
    """What a line opens; nothing where it opens no block."""
    block = _BLOCK.match(text)
    if not block:
        return
    word, rest = block["word"], block["rest"]
    yield word
    if word == "with":
        yield from (f"with {each}" for each in _CALL.findall(rest))
    elif word.startswith("except"):
        yield from (f"except {each}" for each in _NAME.findall(rest)[:4])
    elif word == "def" and text.startswith("async"):
        yield "async def"
