"""The known word that a misspelt one was meant to be. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_lowercase

from packlore.find.terms import MAX_WORD

SHORTEST = 4
"""Letters; among shorter words one edit leads anywhere."""


class Spelling:
    """Finds known words one letter away: left out, added, exchanged, or two in the wrong order.

    Of the asked word all words are made that are so near, and looked up: some 50 for each of its
    letters, whatever there is to find. A table of what each known word may be mistaken for would
    take a hundred times the memory of the words, and a pack may have any number of them.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        """`counts` are the known words and how many items have them."""
        self._counts = counts

    def mend(self, word: str) -> str | None:
        """The known word that `word` was meant to be; None where there is none. A letter that was
        left out comes first, then a mistake near the beginning; of these the commonest word."""
        if not _is_word(word):
            return None
        for near in _near(word):
            if found := [each for each in near if each in self._counts and _is_word(each)]:
                return min(found, key=lambda each: (-self._counts[each], each))
        return None


def _is_word(word: str) -> bool:
    return SHORTEST <= len(word) <= MAX_WORD and word.isascii() and word.isalpha()


def _near(word: str) -> Iterator[list[str]]:
    """The words that are one letter away: those with one more, then those that differ at each
    place."""
    ends = range(len(word) + 1)
    yield [word[:i] + letter + word[i:] for i in ends for letter in ascii_lowercase]
    for i in range(len(word)):
        before, after = word[:i], word[i + 1 :]
        yield [
            before + after,
            before + after[:1] + word[i] + after[1:],
            *(before + letter + after for letter in ascii_lowercase),
        ]
