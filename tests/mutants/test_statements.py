"""What statements are changed into: a table of before and after for each kind."""

from __future__ import annotations

from typing import Any

from tests.mutants.generate import mutants
from tests.mutants.tables import after, check


def test_a_statement_is_dropped() -> None:
    check(
        [
            ("go()", ["pass"]),
            ("del held", ["pass"]),
            ("assert held", ["pass"]),
            ("held.lock = key", ["pass"]),
            ("held[key] = lock", ["pass"]),
            ("class Row:\n    id: int", ["class Row:\n    pass"]),
            ("for each in found: continue", ["for each in found: pass"]),
            ("def go():\n    return", ["def go():\n    pass"]),
        ]
    )


def test_an_assignment_goes_only_where_the_name_is_bound_elsewhere() -> None:
    check([("x = y", []), ("x = y\nx = z", ["pass\nx = z", "x = y\npass"])])


def test_what_says_nothing_stays() -> None:
    check(
        [
            ('"""A docstring."""', []),
            ("import asyncio", []),
            ("def go(): ...", []),
            ("x: int", []),
            ("x = y  # a comment", []),
            ("class Row:\n    __tablename__ = 'rows'", []),
            ("logger = getLogger('access')", []),
            ("Model = TypeVar('Model')", []),
            ("x = text('SELECT a b')", []),
            ("def go(at: int | None, to: 'str') -> Literal[3]: ...", []),
        ]
    )


def test_a_value_is_not_returned() -> None:
    check(
        [
            ("def go():\n    return x", ["def go():\n    return None"]),
            ("def go():\n    return None", ["def go():\n    return 0"]),
        ]
    )


def test_an_error_is_not_raised_or_loses_its_cause() -> None:
    check(
        [
            ("raise Gone", ["pass"]),
            ("raise Gone('a text')", ["pass"]),
            ("raise Gone(404)", ["pass", "raise Gone(405)"]),
            ("raise Gone from error", ["pass", "raise Gone"]),
        ]
    )


def test_a_handler_catches_nothing_or_more() -> None:
    before = "try:\n    pass\nexcept {}:\n    pass"
    wider = ["BaseException", "Exception"]
    for caught, expected in (
        ("OSError", ["()", *wider]),
        ("Exception", ["()", "BaseException"]),
        ("BaseException", ["()"]),
        ("(A, B)", ["()", *wider, "(B)", "(A)"]),
    ):
        assert {*after(before.format(caught))} == {*map(before.format, expected)}


def test_a_group_handler_catches_more() -> None:
    before = "try:\n    pass\nexcept* {}:\n    pass"
    expected = ["()", "BaseException", "Exception"]
    assert after(before.format("OSError")) == [before.format(each) for each in expected]


def test_a_with_is_undone() -> None:
    undone = '__import__("contextlib").nullcontext'
    before = "async def go():\n    async with {}: pass"
    for managers, expected in (
        ("lock", [f"{undone}(lock)"]),
        ("lock as held", [f"{undone}(lock) as held"]),
        ("pool.acquire() as one", [f"{undone}(await pool.acquire().__aenter__()) as one"]),
        ("a as b, c as d", [f"{undone}(a) as b, c as d", f"a as b, {undone}(c) as d"]),
    ):
        assert after(before.format(managers)) == [*map(before.format, expected)]


def test_the_name_of_an_undone_with_is_short() -> None:
    (mutant,) = mutants("with lock: pass")
    assert mutant.name == "with lock: pass -> with nullcontext(lock): pass"


async def test_an_undone_with_gives_what_it_is_given() -> None:
    code = "async def go():\n    async with lock as held:\n        return held"
    names: dict[str, Any] = {"lock": "the lock"}
    exec(after(code)[0], names)
    assert await names["go"]() == "the lock"


def test_a_decorator_is_dropped() -> None:
    check([("@cache\ndef go(): ...", ["\ndef go(): ..."])])
