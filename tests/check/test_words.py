"""Words say which detectors are asked, and take none that would find something."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from packlore.check.imports import resolve
from packlore.check.syntax import PYTHON, search, tree
from packlore.check.words import clauses, may_hold
from tests.check.detectors import CASES, own, pack, python


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rule: {pattern: asyncio.gather($$$REST)}", [["asyncio"], ["gather"]]),
        ("rule: {kind: call}", []),
        ("rule: {kind: call, regex: ^async}", [["async"]]),
        ("rule: {kind: call, regex: '^(get|post)$'}", [["get", "post"]]),
        ("rule: {kind: call, regex: '(?i)get'}", []),
        ("rule: {kind: call, regex: 'gets?'}", [["get"]]),
        ("rule: {kind: with_statement, has: {kind: await}}", [["with"], ["await"]]),
        ("rule: {any: [{pattern: f($A)}, {pattern: longer.g()}]}", [["f", "longer"]]),
        ("rule: {any: [{pattern: f($A)}, {kind: call}]}", []),
        ("rule: {all: [{pattern: f($A)}, {has: {pattern: h}}]}", [["f"], ["h"]]),
        ("rule: {kind: call, not: {pattern: f}}", []),
        ("rule: {pattern: {context: f(), selector: call}}", []),
        ("{rule: {matches: u}, utils: {u: {inside: {pattern: f}}}}", [["f"]]),
        ("{rule: {matches: u}, utils: {u: {has: {matches: u}}}}", []),
    ],
)
def test_words_are_those_of_patterns(text: str, wanted: list[list[str]]) -> None:
    config: dict[str, Any] = yaml.safe_load(text)
    assert [list(each) for each in clauses(config, PYTHON)] == wanted


def test_a_text_holds_one_word_of_each_clause() -> None:
    needed = (("a1", "b1"), ("c1",))
    assert may_hold("b1 c1", needed, {})
    assert not may_hold("a1 b1", needed, {})
    assert not may_hold("c1", needed, {})
    assert may_hold("", (), {})


@pytest.mark.parametrize("part", range(6))
def test_no_detector_that_finds_something_is_left_out(part: int) -> None:
    codes = [code for _, code in python()]
    codes += [path.read_text(encoding="utf-8") for path in sorted(CASES.glob("*.py"))]
    codes += [each.fence.code for rule in pack().rules for each in rule.examples]
    found = spared = 0
    for code in codes[part::6]:
        text = resolve(tree(code, PYTHON), code, own().names).text
        root = tree(text, PYTHON)
        asked = own().still(own().all, text)
        for each in own().all:
            if each not in asked:
                assert search(root, each.config) == [], each.id
                spared += 1
            else:
                found += 1
    assert spared > found
