"""Text to search terms, the same way for what is indexed and what is asked. No I/O.

A term is a lower-case word without its ending; an identifier such as `pool_pre_ping` or
`AsyncSession` gives itself and its parts. Chinese, which has no spaces, gives each pair of
neighbouring characters.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_WORD = 64
"""Characters; a longer run of letters is no word (base64, hashes)."""
STOP_WORDS = frozenset(
    """
    a about after again all also although always am an and any anyone anything are as at be
    because been before being best both but by can cannot come could did do does doing done don
    dont each either else even ever every few find fine first for from further get give go goes
    going got had happen has have having he hello her here hi him his how however i if im in
    instead into is isn it its itself just keep know let like ll look make many may maybe me mine
    more most much must my need needs never no nor not nothing now of off often ok on once one
    only or other others our out over own please possible problem put question re really right s same say
    see seem she should since so some someone something sometimes still such sure t take tell than
    thank thanks that the their them then there these they thing things think this those though to
    today too try trying under until up us use used uses using ve very want was way we well went
    were what when where whether which while who why will with within without work worked working
    works would wrong yes yet you your
    """.split()  # noqa: SIM905 a list of 200 strings is no easier to read
)
"""English words that say nothing about a topic."""

_WORD = re.compile(r"[^\W\d]\w*|\d{3,5}\b|[\u3400-\u9fff]+", re.UNICODE)
_HAN = re.compile(r"[\u3400-\u9fff]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]+|[a-z0-9]+")
_ENDINGS = tuple(
    "ations ation ating ions ated ates ion ate ings ing ers ed er ly es s e".split()  # noqa: SIM905
)


def terms(text: str) -> list[str]:
    """The terms of `text` in its order, repeated as they are in it, without stop words."""
    words = _WORD.findall(text)
    if max(map(len, words), default=0) > MAX_WORD:
        words = [word for word in words if len(word) <= MAX_WORD]
    return [form for word in words for form in forms(word)]


@lru_cache(maxsize=65536)
def forms(word: str) -> tuple[str, ...]:
    """The terms of one word: none for a stop word, several for an identifier of parts."""
    if word.isascii() and word.isalpha() and word[1:].islower():  # most words are plain ones
        lower = word.lower()
        return () if lower in STOP_WORDS else (stem(lower),)
    if _HAN.search(word):
        if _HAN.fullmatch(word):
            return tuple(word[i : i + 2] for i in range(len(word) - 1)) or (word,)
        # Latin and Chinese without a space between them.
        rest = _HAN.sub(" ", word).split()
        return tuple(form for part in (*rest, *_HAN.findall(word)) for form in forms(part))
    lower = word.lower().strip("_")
    if not lower or lower in STOP_WORDS:
        return ()
    parts = _CAMEL.findall(word) if word.isascii() else []
    if len(parts) < 2:
        return (stem(lower),)
    low = (part.lower() for part in parts)
    return (lower, *(stem(part) for part in low if len(part) > 1 and part not in STOP_WORDS))


def is_han(term: str) -> bool:
    """Whether a term is of Chinese characters."""
    return _HAN.match(term) is not None


def stem(word: str) -> str:
    """The word without its English ending, so that `timed`, `times` and `timing` are one term."""
    if len(word) < 4 or not word.isascii() or not word.isalpha() or word.endswith("ss"):
        return word
    if word.endswith(_ENDINGS):
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)]
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiousl":
        word = word[:-1]
    if word.endswith("ll") and len(word) > 4:
        word = word[:-1]
    return f"{word[:-1]}i" if word.endswith("y") and len(word) > 3 else word
