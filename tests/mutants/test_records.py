"""What is recorded of the rules' mutants holds for the blocks and proofs as they are."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import records
from tests.mutants.records import WANTED, Record, Subject, names

RULE = "asyncio-timeout"


def test_each_rule_and_reference_has_a_record() -> None:
    assert [each for each in names() if not records.subject(each).load()] == []


@pytest.mark.parametrize("name", names())
def test_each_has_a_fresh_record_and_a_reason_for_each_survivor(name: str) -> None:
    subject = records.subject(name)
    assert not subject.stale(), f"{name} {subject.stale()}: run make mutants RULE={name}"
    unlisted = subject.unlisted()
    assert not unlisted, f"no test of {name} notices: {unlisted}"
    assert not subject.misfits()


def test_the_proofs_of_each_category_notice_nine_mutants_in_ten() -> None:
    killed: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for subject in map(records.subject, names()):
        if record := subject.load():
            killed[subject.category] += record.killed
            total[subject.category] += record.total
    few = {each: f"{killed[each]} of {total[each]}" for each in total}
    assert all(killed[each] >= WANTED * total[each] for each in total), few


def test_records_and_reasons_are_those_of_rules_and_references() -> None:
    subjects = [*map(records.subject, names())]
    known = {path for each in subjects for path in (each.record_path, each.reasons_path)}
    assert {
        path for folder in {each.folder for each in subjects} for path in folder.glob("*")
    } <= known


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A rule whose record and reasons are written to a folder of the test's own."""
    return Subject(RULE, tmp_path / "mutants")


def mutants_of(subject: Subject) -> list[str]:
    return [each.name for each in subject.mutants]


def test_a_rule_without_a_record_is_stale(subject: Subject) -> None:
    assert subject.stale() == "has no record"
    assert subject.unlisted() == []


def test_a_record_is_read_as_it_was_written(subject: Subject) -> None:
    _, survivor, *_ = mutants_of(subject)
    record = subject.record([survivor])
    subject.save(record)
    assert subject.load() == record
    assert (record.total, record.killed) == (len(subject.mutants), len(subject.mutants) - 1)
    assert subject.stale() == ""
    assert json.loads(subject.record_path.read_text("utf-8"))["survivors"] == [survivor]


@pytest.mark.parametrize(
    ("field", "said"), [("block", "block"), ("proof", "proof"), ("mutants", "operators")]
)
def test_a_record_of_something_else_is_stale(field: str, said: str, subject: Subject) -> None:
    changed: dict[str, Any] = {field: "another"}
    subject.save(replace(subject.record([]), **changed))
    assert subject.stale() == f"was recorded with another {said}"


def test_a_record_that_cannot_be_read_is_stale(subject: Subject) -> None:
    subject.folder.mkdir()
    for text in ("{", "[]", '{"block": "of a former form"}'):
        subject.record_path.write_text(text, "utf-8")
        assert subject.stale() == "has no record"


def test_a_survivor_needs_a_reason(subject: Subject) -> None:
    first, second, *_ = mutants_of(subject)
    subject.save(subject.record([first, second]))
    subject.reasons_path.write_text(json.dumps({first: "no test can wait for a day"}), "utf-8")
    assert subject.unlisted() == [second]
    assert subject.misfits() == []
    assert subject.stale() == ""


@pytest.mark.parametrize("reason", [None, "", "equivalent", 5])
def test_a_reason_is_a_sentence(reason: object, subject: Subject) -> None:
    first, *_ = mutants_of(subject)
    subject.save(subject.record([first]))
    subject.reasons_path.write_text(json.dumps({first: reason}), "utf-8")
    assert subject.misfits() == [f"{RULE}.yml: `{first}` has no reason"]


def test_a_reason_is_for_a_survivor(subject: Subject) -> None:
    first, second, *_ = mutants_of(subject)
    subject.save(subject.record([second]))
    reasons = dict.fromkeys((first, second, "a -> b"), "no test can wait for a day")
    subject.reasons_path.write_text(json.dumps(reasons), "utf-8")
    assert subject.misfits() == [
        f"{RULE}.yml: `{first}` is noticed",
        f"{RULE}.yml: `a -> b` is no mutant",
    ]


def test_a_file_of_reasons_holds_names_and_reasons(subject: Subject) -> None:
    subject.save(subject.record([]))
    subject.reasons_path.write_text("- a list\n", "utf-8")
    assert subject.misfits() == [f"{RULE}.yml: not a map of names to reasons"]


def test_what_was_killed_is_the_rest() -> None:
    assert Record("", "", "", total=10, survivors=["a", "b"]).killed == 8
