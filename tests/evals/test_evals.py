"""The harness from task to table. The fake agent knows no more than the rules' blocks."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.evals import __main__ as command
from benchmarks.evals import cases
from benchmarks.evals.arms import SKILL, Arm
from benchmarks.evals.grade import grade
from benchmarks.evals.report import table
from benchmarks.evals.runs import Run, planned
from tests.proofs.harness import ROOT

RULES = ["asyncio-timeout", "fastapi-transaction-scope"]


@pytest.fixture(autouse=True)
def _found_by_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'server'}")


def _fake(which: str) -> str:
    return shlex.join([sys.executable, "-m", "benchmarks.evals.fake", which])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("which", "faults"), [("correct", 0), ("incorrect", 1)])
def test_a_fake_agent_scores_all_or_nothing(
    which: str, faults: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [*RULES, "--agent", _fake(which), "--runs", "1", "--results", str(tmp_path)]
    assert command.main(call) == 0
    said = capsys.readouterr()
    for rule in RULES:
        assert f"| {rule} | {faults}/1 | {faults}/1 | {faults}/1 |  |\n" in said.out
    assert f"| all | {2 * faults}/2 | {2 * faults}/2 | {2 * faults}/2 |  |\n" in said.out
    assert ("test_correct_runs_it_every_time: " in said.err) == bool(faults)

    assert command.main([*call[:-4], "--agent", "false", *call[-4:]]) == 0  # nothing is left to do
    again = capsys.readouterr()
    assert (again.out, again.err) == (said.out, "")


def test_without_an_agent_the_tasks_wait_for_somebody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["asyncio-timeout", "--runs", "1", "--results", str(tmp_path)]
    assert command.main(call) == 1
    assert "3 tasks in" in capsys.readouterr().err
    alias = cases.load("asyncio-timeout").alias
    alone, skilled = (tmp_path / arm / alias / "1" for arm in ("without", "skill"))
    assert "timeout" not in str(alone.relative_to(tmp_path))
    assert {path.name for path in alone.iterdir()} == {"task.md"}
    assert (skilled / SKILL / "rules" / "asyncio-timeout.md").exists()
    assert not list(skilled.rglob("evals")) + list(skilled.rglob("tests"))

    (alone / "solution.py").write_text(cases.load("asyncio-timeout").block(correct=False).code)
    assert command.main([*call, "--arms", "without,check"]) == 1
    assert "| asyncio-timeout | 1/1 | 0/0 |  |" in capsys.readouterr().out
    review = (tmp_path / "check" / alias / "1" / "task.md").read_text()
    assert "line 9, asyncio-timeout (error)" in review


def test_a_verdict_holds_for_the_code_that_was_judged(tmp_path: Path) -> None:
    case = cases.load("asyncio-timeout")
    (run,) = planned([case], [Arm.WITHOUT], 1, tmp_path)
    run.folder.mkdir(parents=True)
    run.solution.write_text("def current_rate(")
    assert run.grade().ended == "unusable"
    assert run.verdict == run.grade()
    run.solution.write_text("x = 1")
    assert run.verdict is None


def test_code_that_lacks_a_name_is_unusable_and_one_that_breaks_has_the_fault() -> None:
    case = cases.load("asyncio-timeout")
    assert grade(case, "x = 1").failed == {"current_rate": "is not defined"}
    verdict = grade(case, "raise OSError('broken')\ndef current_rate(): pass")
    assert verdict.ended == "fault"
    assert "broken" in verdict.failed["test_correct_runs_it_every_time"]
    verdict = grade(case, "import os\nos._exit(3)\ndef current_rate(): pass")
    assert verdict.ended == "fault"
    assert verdict.failed["all tests"].startswith("ended with 3: ")


def test_the_table_says_which_arm_did_worse(tmp_path: Path) -> None:
    case = cases.load("asyncio-timeout")
    runs = list(planned([case], [Arm.WITHOUT, Arm.SKILL], 2, tmp_path))
    for run, ended in zip(runs, ("right", "fault", "fault", "fault"), strict=True):
        _judged(run, ended)
    assert "| asyncio-timeout | 1/2 | 2/2 | skill worse |" in table(runs)
    _judged(runs[2], "right")
    _judged(runs[3], "unusable")
    assert "| asyncio-timeout | 1/2 | 0/1 (1 unusable) | skill better |" in table(runs)


def _judged(run: Run, ended: str) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    run.solution.write_text("")
    run.keep("verdict.json", {"ended": ended, "failed": {}, "of": run.digest})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["asyncio-timeuot"], "no task for asyncio-timeuot; did you mean asyncio-timeout?"),
        (["--arms", "with"], "the arms are without, skill, check"),
        (["--runs", "0"], "take numbers above 0"),
        ([], "--results FOLDER says where runs are kept"),
    ],
)
def test_a_wrong_call_names_the_fix(
    call: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("PACKLORE_DEV", raising=False)
    with pytest.raises(SystemExit) as ended:
        command.main(call)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
