"""Mutants have names that last, and none is there twice."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.generate import block_digest, mutants
from tests.mutants.records import Subject, rules
from tests.mutants.source import without_comments
from tests.mutants.tables import after

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
