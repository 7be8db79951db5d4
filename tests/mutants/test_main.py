"""The command says what is left to do, records it, and ends with the code that its docstring says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants import records
from tests.mutants.records import Subject
from tests.mutants.run import Broken, Result, Task

RULE = "asyncio-timeout"
Survive = Callable[..., None]


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """The rule, with a folder of the test's own. Nothing is run: see `survive`."""
    monkeypatch.setattr(records, "subject", lambda name: Subject(name, tmp_path))
    return Subject(RULE, tmp_path)


@pytest.fixture
def survive(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Survive:
    """Have a run end so that mutants at these places survive; None breaks the proof."""

    def told(*places: int | None) -> None:
        names = {subject.mutants[each].name for each in places if each is not None}

        def run(todo: Sequence[Task], jobs: int) -> Iterator[Result | Broken]:
            for task in todo:
                if None in places:
                    yield Broken(task.subject, "its proof is red")
                    return
                for each in task.mutants:
                    yield Result(task.subject, each, each.name not in names, "test_it", "why")

        monkeypatch.setattr(command, "run", run)

    return told


def test_a_survivor_is_recorded_and_said_with_its_change(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(1)
    assert command.main([RULE, "--survivors", "--killers"]) == 1
    name = subject.mutants[1].name
    record = subject.load()
    assert record
    assert record.survivors == [name]
    said = capsys.readouterr().err
    assert f"{RULE}: {len(subject.mutants) - 1} of {len(subject.mutants)} killed" in said
    assert f"  survived `{name}`\n    @@" in said
    assert f"  killed `{subject.mutants[0].name}` by test_it: why" in said


def test_a_listed_survivor_is_all_right(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(1)
    listed = {subject.mutants[1].name: "no test can wait for a day"}
    subject.reasons_path.write_text(json.dumps(listed), "utf-8")
    assert command.main([RULE]) == 0
    assert "survived (listed)" in capsys.readouterr().err
    survive()
    assert command.main([RULE]) == 1
    assert "is noticed" in capsys.readouterr().err


def test_a_broken_proof_is_not_recorded(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(None)
    assert command.main([RULE]) == 1
    assert subject.load() is None
    assert f"{RULE}: its proof is red" in capsys.readouterr().err


def test_only_what_is_stale_runs_and_the_rest_is_told_of(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(0)
    assert command.main([RULE, "--only-stale"]) == 1
    survive(None)
    assert command.main([RULE, "--only-stale"]) == 1
    said = capsys.readouterr().err
    assert f"{RULE}, as recorded:\n  survived `{subject.mutants[0].name}`" in said
    assert "red" not in said
    subject.save(subject.record([]))
    assert command.main([RULE, "--only-stale"]) == 0


def test_some_mutants_are_run_without_a_record(subject: Subject, survive: Survive) -> None:
    survive(0)
    assert command.main([RULE, "--match", "except"]) == 0
    assert subject.load() is None


def test_a_sample_is_compared_with_the_record(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(0)
    everything = [RULE, "--sample", "100", "--seed", "1"]
    assert command.main(everything) == 0  # nothing is recorded
    subject.save(subject.record([subject.mutants[0].name]))
    assert command.main(everything) == 0
    survive()
    assert command.main(everything) == 1
    assert "not as recorded" in capsys.readouterr().err


def test_a_seed_draws_the_same_mutants(
    subject: Subject, survive: Survive, capsys: pytest.CaptureFixture[str]
) -> None:
    survive()
    subject.save(subject.record([]))
    drawn = []
    for seed in ("1", "1", "2"):
        command.main([RULE, "--sample", "2", "--seed", seed, "--killers"])
        drawn.append([line for line in capsys.readouterr().err.splitlines() if "killed `" in line])
    assert drawn[0] == drawn[1] != drawn[2]
