"""The known word that a misspelt one was meant to be. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packlore.find.terms import MAX_WORD

SHORTEST = 4
"""Letters; among shorter words one edit leads anywhere."""


class Spelling:
    """Finds known words one letter away: left out, added, exchanged, or two in the wrong order.

    By symmetric deletes: two words are that near when they are the same after each loses at most
    one letter. A look-up costs as many steps as the word has letters, whatever there is to find.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        """`counts` are the known words and how many items have them; the commonest one wins."""
        self._known: dict[str, str] = {}
        for word in sorted(counts, key=lambda word: (-counts[word], word)):
            if _is_word(word):
                for shorter in _deletes(word):
                    self._known.setdefault(shorter, word)

    def mend(self, word: str) -> str | None:
        """The known word that `word` was meant to be; None where there is none."""
        if not _is_word(word):
            return None
        found = (self._known.get(shorter) for shorter in _deletes(word))
        return next((each for each in found if each), None)


def _is_word(word: str) -> bool:
    return SHORTEST <= len(word) <= MAX_WORD and word.isascii() and word.isalpha()


def _deletes(word: str) -> Iterator[str]:
    yield word
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
