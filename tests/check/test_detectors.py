"""Each rule that code can break has a detector that sees it, and sees nothing in what is right."""

from __future__ import annotations

import pytest

from packlore.check import detectors
from tests.check.detectors import CASES, MARK, findings, own, pack, python, renamed, unseen

RULES = sorted({each.rule for each in own().all})


def test_every_detector_can_be_used() -> None:
    assert detectors(pack())[1] == ()


def test_each_rule_has_a_detector_or_a_reason() -> None:
    assert {*RULES} | {*unseen()} == {rule.id for rule in pack().rules}
    assert {*RULES} & {*unseen()} == set()
    assert all(len(reason.split()) > 5 for reason in unseen().values())


def test_each_detector_has_cases() -> None:
    assert {path.stem for path in CASES.glob("*.py")} == {*RULES}


@pytest.mark.parametrize("rule", RULES)
def test_it_sees_the_incorrect_block(rule: str) -> None:
    (found,) = [each for each in pack().rules if each.id == rule]
    wrong = found.example(correct=False)
    assert wrong is not None
    assert rule in {each.rule for each in findings(wrong.fence.code)}


@pytest.mark.parametrize("rule", RULES)
def test_it_sees_the_incorrect_block_under_other_names(rule: str) -> None:
    (found,) = [each for each in pack().rules if each.id == rule]
    wrong = found.example(correct=False)
    assert wrong is not None
    assert rule in {each.rule for each in findings(renamed(wrong.fence.code))}


@pytest.mark.parametrize(("place", "code"), [pytest.param(*each, id=each[0]) for each in python()])
def test_it_sees_nothing_in_what_is_right(place: str, code: str) -> None:
    assert [(each.line, each.detector) for each in findings(code)] == []


@pytest.mark.parametrize("rule", RULES)
def test_it_sees_each_variation_and_nothing_else(rule: str) -> None:
    """In `cases/<rule>.py` each line that ends in `# finds` is one way to write the fault, and all
    others are right, some of them nearly wrong."""
    code = (CASES / f"{rule}.py").read_text(encoding="utf-8")
    wanted = {n for n, row in enumerate(code.split("\n"), start=1) if MARK.search(row)}
    assert len(wanted) >= 3
    assert {each.line for each in findings(code) if each.rule == rule} == wanted
