"""A text in which a regular expression matches holds a word of each of its clauses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packlore.check.literals import required


@pytest.mark.parametrize(
    ("regex", "wanted"),
    [
        ("except", [("except",)]),
        (r"^except\s*:", [("except",)]),
        (r"\.(?:get|post)\(", [("get", "post")]),
        (r"^(?P<name>get|post)s?$", [("get", "post")]),
        (r"first\s+second", [("first",), ("second",)]),
        (r"colou?r", [("colo",), ("r",)]),
        (r"lo+ng", [("lo",), ("ng",)]),
        (r"ab*c", [("a",), ("c",)]),
        (r"a{0,2}bc", [("bc",)]),
        (r"(?:one)?two", [("two",)]),
        (r"(?:one)+two", [("one",), ("two",)]),
        (r"(?s)one.*two", [("one",), ("two",)]),
        (r"one|two\d", [("one", "two")]),
        (r"one|\d", []),
        (r"one|", []),
        (r"x[a-z]y", [("x",), ("y",)]),
        (r"[]a]b", [("b",)]),
        (r"\x41\pLn\w", [("n",)]),
        (r"\bword\b", [("word",)]),
        (r"(?i)word", []),
        (r"(?i:word)s", [("s",)]),
        (r"(?is:a(b)|word)s|x", [("s", "x")]),
        (r"one(?i)two", []),
        (r"(?si)word", []),
        (r"(?x:w o)rd", []),
        (r"one\[two\]", [("one",), ("two",)]),
        (r"(?x) w o r d", []),
        (r"[a-z&&[^b]]word", []),
        (r"[[:alpha:]]word", [("word",)]),
        ("(word", []),
        ("word)", []),
        ("*", []),
        ("(" * 30 + "word" + ")" * 30, []),
    ],
)
def test_words_of_a_regular_expression(regex: str, wanted: list[tuple[str, ...]]) -> None:
    assert required(regex) == wanted


pieces = st.sampled_from(
    [*"abc", ".", r"\.", r"\w", r"\s", r"\b", "^", "$", "[ab]", "[^c]", " ", "word"]
)
regexes = st.recursive(
    pieces,
    lambda inner: st.one_of(
        st.builds("".join, st.lists(inner, min_size=1, max_size=4)),
        st.builds("(?:{})".format, inner),
        st.builds("({})".format, inner),
        st.builds("{}|{}".format, inner, inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["?", "*", "+", "{0,1}", "{2}", "+?"])),
        st.builds("{}{}".format, st.sampled_from("abc"), st.sampled_from(["?", "*", "+", "{2}"])),
    ),
    max_leaves=12,
)


@given(regexes, st.lists(st.sampled_from([*"abc.", " ", "word", "\n"]), max_size=12).map("".join))
def test_no_match_lacks_a_word(regex: str, text: str) -> None:
    found = re.search(regex, text)
    if found:
        assert all(any(word in found[0] for word in clause) for clause in required(regex))
