"""What tests of the operators are written with."""

from __future__ import annotations

from tests.mutants.generate import mutants

Table = list[tuple[str, list[str]]]


def after(code: str) -> list[str]:
    return [each.code for each in mutants(code)]


def check(table: Table) -> None:
    for before, expected in table:
        assert after(before) == expected
