"""What a block is changed into: a table of before and after for each operator."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from tests.mutants.generate import block_digest, mutants
from tests.mutants.records import Subject, rules
from tests.mutants.source import without_comments

Table = list[tuple[str, list[str]]]


def after(code: str) -> list[str]:
    return [each.code for each in mutants(code)]


def check(table: Table) -> None:
    for before, expected in table:
        assert after(before) == expected


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


def test_an_argument_is_dropped() -> None:
    check(
        [
            ("x = f(a)", []),  # would only be missing
            ("x = f(a, b)", ["x = f(a)"]),
            ("x = f(a=b)", ["x = f()"]),
            ("x = f(a, b=c)", ["x = f(b=c)", "x = f(a)"]),
            ("x = gather(*a, *b)", ["x = gather(*b)", "x = gather(*a)"]),
        ]
    )


def test_a_line_with_an_argument_is_dropped_with_its_comment() -> None:
    code = "x = f(\n    a=b,  # why\n    c=d,\n)"
    assert after(code) == ["x = f(\n    c=d,\n)", "x = f(\n    a=b,\n)"]
    assert [each.name for each in mutants(code)] == ["a=b, -> (nothing)", "c=d, -> (nothing)"]


def test_a_part_of_a_query_is_dropped() -> None:
    check(
        [
            ("x = select(A).where(B)", ["x = select(A)"]),
            (
                "x = q.where(A, B)",
                ["x = q", "x = q.where(B)", "x = q.where(A)"],
            ),
        ]
    )


def test_an_entry_is_dropped() -> None:
    check(
        [
            ("x = [a, b]", ["x = [b]", "x = [a]"]),
            ("x = {a}", ["x = {}"]),
            ("x = {a: b, c: d}", ["x = {c: d}", "x = {a: b}"]),
        ]
    )


def test_a_constant_is_moved() -> None:
    check(
        [
            ("x = 1", ["x = 2"]),
            ("x = 1.5", ["x = 2.5"]),
            ("x = True", ["x = False"]),
            ("x = 'up'", ['x = "upXX"']),
            ("x = b'up'", ["x = b'upXX'"]),
            ("x = None", []),
            ("put(None)", ["pass", "put(0)"]),
            ("x = 'words for people'", []),
        ]
    )


def test_a_time_is_ten_times_as_long() -> None:
    check(
        [
            ("x = timeout(5)", ["x = timeout(50)"]),
            ("GRACE_SECONDS = 5", ["GRACE_SECONDS = 50"]),
            ("def go(delay=5): ...", ["def go(delay=50): ..."]),
            ("x = f(recycle=5)", ["x = f()", "x = f(recycle=50)"]),
            ("x = ClientTimeout(total=5)", ["x = ClientTimeout()", "x = ClientTimeout(total=50)"]),
            ("x = f(page=5)", ["x = f()", "x = f(page=6)"]),
        ]
    )
    assert "x = {'timeout': 50}" in after("x = {'timeout': 5}")


def test_a_formatted_text_says_the_same_of_all() -> None:
    check([('x = f"order-{number:>3}"', ['x = f"order-{None:>3}"'])])


def test_a_log_line_keeps_its_text() -> None:
    check([("logger.info('gone: %s', x)", ["pass", "logger.info('gone: %s')"])])


def test_a_condition_is_turned() -> None:
    check(
        [
            ("x = a if b else c", ["x = a if not b else c"]),
            ("x = a if not b else c", ["x = a if b else c"]),
            ("x = [a for a in b if c]", ["x = [a for a in b if not c]"]),
            ("while a: x = a", ["while not a: x = a"]),
        ]
    )


def test_a_comparison_is_changed() -> None:
    for before, expected in (
        ("==", ["!="]),
        ("!=", ["=="]),
        ("<", ["<=", ">="]),
        ("<=", ["<", ">"]),
        (">", ["<=", ">="]),
        (">=", ["<", ">"]),
        ("is", ["is not"]),
        ("is not", ["is"]),
        ("in", ["not in"]),
        ("not in", ["in"]),
    ):
        assert after(f"x = a {before} (b)") == [f"x = a {each} (b)" for each in expected]
    assert after("x = a is None") == ["x = a is not None"]


def test_and_and_or_are_changed() -> None:
    check(
        [
            ("x = a and b", ["x = (a or b)", "x = a", "x = b"]),
            ("x = a or b", ["x = (a and b)", "x = a", "x = b"]),
        ]
    )
    parts = ["(a and c)", "(a or b or c)", "(b and c)", "(a and b)"]
    assert {*after("x = a and b and c")} == {f"x = {each}" for each in parts}


def test_arithmetic_is_changed() -> None:
    for before, expected in (("+", "-"), ("-", "+"), ("*", "/"), ("/", "*"), ("//", "*")):
        assert after(f"x = a {before} b") == [f"x = a {expected} b"]
    assert after("x = -(a + b)") == ["x = (a + b)", "x = -(a - b)"]
    assert after("x += y") == ["pass", "x -= y"]


def test_await_is_dropped_where_the_work_goes_on() -> None:
    before = "async def go():\n    {}"
    for line, expected in (
        ("x = await task", ["x = task"]),
        ("x = await session.get(key)", []),
        ("x = await asyncio.gather(a)", ["x = asyncio.gather(a)"]),
    ):
        assert after(before.format(line)) == [*map(before.format, expected)]


def test_calls_in_annotations_are_changed() -> None:
    code = "def go(session: Annotated[Session, Depends(get, scope='function')]): ..."
    assert "def go(session: Annotated[Session, Depends(get)]): ..." in after(code)
    assert after("def go(at: Annotated[int, 3]): ...") == []


NAMES = """
class Row:
    def save(self):
        self.flush()  # now

    def drop(self):
        self.flush()
        self.flush()
"""


def test_names_outlive_a_shift_of_lines() -> None:
    names = [each.name for each in mutants(NAMES)]
    assert names == [
        "Row.save: self.flush() -> pass",
        "Row.drop: self.flush() -> pass",
        "Row.drop: self.flush() -> pass (2)",
    ]
    shifted = NAMES.replace("# now", "# later").replace("    def drop", "\n    def drop")
    assert [each.name for each in mutants(shifted)] == names
    assert block_digest(shifted) == block_digest(NAMES)


def test_comments_are_cut_off_and_texts_are_not() -> None:
    assert without_comments('x = "# é"  # é\n# y\n') == 'x = "# é"\n\n'


def test_places_are_right_behind_letters_of_two_bytes() -> None:
    assert after("é = 'né'; x = f(a, é=1)") == [
        'é = "néXX"; x = f(a, é=1)',
        "é = 'né'; x = f(é=1)",
        "é = 'né'; x = f(a)",
        "é = 'né'; x = f(a, é=2)",
    ]


@pytest.mark.parametrize("rule", rules())
def test_the_mutants_of_a_rule_compile_and_differ(rule: str) -> None:
    subject = Subject(rule)
    shapes = {ast.dump(ast.parse(each.code)) for each in subject.mutants}
    assert len(shapes) == len(subject.mutants) > 0
    assert ast.dump(ast.parse(subject.code)) not in shapes
    assert len({each.name for each in subject.mutants}) == len(subject.mutants)
