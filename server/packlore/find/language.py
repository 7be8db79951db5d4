"""Whether a query is English. No I/O.

Packs are written in English, and may know other words from how people ask. Where nothing fits, it
helps to know that the language may be why.
"""

from __future__ import annotations

import re
import unicodedata

from packlore.find.terms import STOP_WORDS

_WORD = re.compile(r"[^\W\d_]+")
MAX_WORDS = 200
"""Words that are looked at."""
# Words of German, French, Spanish, Portuguese, Italian, Dutch, Polish and Turkish that nearly
# every sentence has one of, and that are no English words.
_ELSEWHERE = frozenset(
    """
    der das und nicht ist ich wie ein eine zu mit wird werden warum auf dem den beim einen kann
    le les des est pas une que pour dans avec sur comment pourquoi quand je mon
    el los las por como para una con cuando mi qué cómo porque
    não uma como quando meu por são os
    il che non per una sono come quando perché della
    het een niet hoe waarom met van wordt
    jak nie jest się dlaczego kiedy
    bir için neden değil ve bu
    """.split()  # noqa: SIM905 a list of these is no easier to read
)


def english(text: str) -> bool:
    """Whether the text may be English: its letters are Latin, and no more of its words belong to
    another language than to English. Code and messages are English."""
    words = _WORD.findall(text.lower())[:MAX_WORDS]
    letters = "".join(words)
    latin = sum(each.isascii() or "LATIN" in unicodedata.name(each, "") for each in letters)
    if latin * 2 < len(letters):
        return False
    elsewhere = sum(word in _ELSEWHERE for word in words)
    return elsewhere < 2 or elsewhere <= sum(word in STOP_WORDS for word in words)
