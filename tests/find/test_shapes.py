"""What code shows by its shape."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packlore.find.features import features
from packlore.find.query import read_query
from packlore.find.shapes import MAX_LINES, shapes


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("for each in rows:\n    read(each)", "for>read"),
        ("async def f():\n    wait(1)", "async def>wait"),
        ("async with limit(5):\n    yield 1", "with limit>yield"),
        ("try:\n    a()\nfinally:\n    await close()", "finally>await"),
        ("try:\n    a()\nexcept (A, Late):\n    pass", "except Late>pass"),
        ("for a in b:\n    if a:\n        send(a)", "for>send"),
    ],
)
def test_what_is_called_inside_of_what(code: str, wanted: str) -> None:
    assert wanted in set(shapes(code))


def test_what_stands_beside_a_block_is_not_inside_it() -> None:
    found = set(shapes("for a in b:\n    one(a)\ntwo(b)\n"))
    assert "for>one" in found
    assert "for>two" not in found


def test_without_indentation_what_follows_is_inside_until_the_next_function() -> None:
    found = set(shapes("def a():\nfor b in c:\none(b)\ndef d():\ntwo()"))
    assert {"for>one", "def>one", "def>two"} <= found
    assert "for>two" not in found


def test_only_code_has_shapes() -> None:
    asked = "async def f():\n    for a in b:\n        await read(a)\n"
    assert read_query(asked).code
    assert crc32(b">for>read") in features(asked)
    assert crc32(b">for>read") not in features("why does for not read(each) in a with")
    assert "for>read" not in read_query(asked).weights


@given(st.text(alphabet="af( )\n\t:.wihtdexcp*", max_size=2_000))
def test_any_text_has_bounded_shapes(text: str) -> None:
    assert all(">" in each for each in shapes(text))


def test_only_the_first_lines_are_looked_at() -> None:
    code = "if a:\n" + "    b()\n" * MAX_LINES + "    late()\n"
    assert "if>late" not in set(shapes(code))
