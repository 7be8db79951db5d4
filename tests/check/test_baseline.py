"""A code base with old findings is told only of new ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from packlore.check import Finding, Level, baseline
from packlore.errors import BadArgumentError

ONE = Finding("a.py", 3, 1, 3, 9, "loops-x", "loops-x", Level.ERROR, "m", "n", "time.sleep(1)")


def known(tmp_path: Path, *findings: Finding) -> Path:
    place = tmp_path / "known.json"
    place.write_text(baseline.written(findings), encoding="utf-8")
    return place


def test_a_known_finding_is_known_on_another_line_and_no_other_is(tmp_path: Path) -> None:
    load = baseline.load(known(tmp_path, ONE))
    moved = replace(ONE, line=90, code="time.sleep( 1)".replace("( ", "("))
    others = [replace(ONE, path="b.py"), replace(ONE, rule="loops-y"), replace(ONE, code="x()")]
    assert baseline.new([moved, *others], load) == others


def test_of_three_equal_ones_two_are_known(tmp_path: Path) -> None:
    load = baseline.load(known(tmp_path, ONE, replace(ONE, line=5)))
    three = [replace(ONE, line=number) for number in (3, 5, 7)]
    assert baseline.new(three, load) == three[2:]
    assert baseline.new(three, load) == three[2:]  # it is not used up


def test_a_baseline_is_the_same_for_the_same_findings_in_any_order(tmp_path: Path) -> None:
    other = replace(ONE, path="é.py")
    assert baseline.written([ONE, other]) == baseline.written([other, ONE])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "files": {}}', "[" * 9999,
    '{"version": 1, "files": {"a": 5}}', '{"version": 1, "files": {"a": {"b": "x"}}}'])  # fmt: skip
def test_what_is_no_baseline_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadArgumentError, match="is no baseline of packlore"):
        baseline.load(tmp_path / "x.json")


def test_one_that_is_missing_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match="--write-baseline"):
        baseline.load(tmp_path / "x.json")
