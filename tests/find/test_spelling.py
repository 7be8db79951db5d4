"""What a misspelt word is taken for, and what that costs."""

from __future__ import annotations

import random
import tracemalloc
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packlore.find.spelling import SHORTEST, Spelling
from packlore.find.terms import MAX_WORD

WORDS = st.text(ascii_lowercase, min_size=SHORTEST + 1, max_size=12)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("timout", "timeout"),  # left out
        ("timmeout", "timeout"),  # added
        ("timeoat", "timeout"),  # exchanged
        ("tiemout", "timeout"),  # two in the wrong order
        ("imeout", "timeout"),
        ("timeou", "timeout"),
        ("itmeout", "timeout"),
        ("timeotu", "timeout"),
        ("timeouts", "timeout"),
        ("timeout", "timeout"),
        ("tmieotu", None),  # two mistakes
        ("imeouts", None),  # one left out, one added elsewhere
        ("pol", None),  # too short to tell
        ("pole", None),
        ("größe", None),
        ("timeout1", None),
        ("t" * (MAX_WORD + 1), None),
        ("", None),
    ],
)
def test_a_word_that_is_one_letter_away_is_meant(asked: str, meant: str | None) -> None:
    assert Spelling({"timeout": 3, "pool": 1, "pol": 9, "grösse": 1}).mend(asked) == meant


@given(WORDS, st.data())
def test_each_mistake_of_one_letter_is_mended(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from(ascii_lowercase))
    for wrong in (
        word[:at] + word[at + 1 :],
        word[:at] + letter + word[at:],
        word + letter,
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    ):
        assert Spelling({word: 1, "q" * MAX_WORD: 9}).mend(wrong) == word


def test_of_several_the_likeliest_is_meant() -> None:
    known = {"order": 1, "oper": 9, "odder": 2, "oider": 1, "closed": 1, "close": 9}
    spelling = Spelling(known)
    assert spelling.mend("oder") == "odder"  # a letter left out, before one exchanged
    assert spelling.mend("closd") == "closed"
    assert spelling.mend("oier") == "oider"
    assert Spelling({"aaab": 1, "aaac": 2}).mend("aaad") == "aaac"
    assert Spelling({"aaac": 1, "aaab": 1}).mend("aaad") == "aaab"


def test_words_take_no_memory_but_their_own() -> None:
    """Ten times the words take no more. A table of what each may be mistaken for would take a
    hundred times their size: a pack of 1 MB of words without sense, 140 MB."""

    def most(size: int) -> int:
        chance = random.Random(1)
        known = {"".join(chance.choices(ascii_lowercase, k=60)): 1 for _ in range(size)}
        wrong = [word[:30] + word[31:] for word in known][:20]
        tracemalloc.start()
        spelling = Spelling(known)
        for each in wrong:
            assert spelling.mend(each) in known
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    most(20)
    assert most(2_000) < 2 * most(200)
