"""An agent is any command; whatever it does, its run ends and says how."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest

from benchmarks.evals.agents import ask, fenced

CODE = "x = 1\n"


def _command(source: str, *arguments: str) -> str:
    return shlex.join([sys.executable, "-c", source, *arguments])


def test_the_task_comes_on_standard_input_and_the_code_in_a_file(tmp_path: Path) -> None:
    told = ask(
        _command("import sys; open('solution.py', 'w').write(sys.stdin.read())"), CODE, tmp_path, 30
    )
    assert (told.problem, told.tokens) == ("", None)
    assert (tmp_path / "solution.py").read_text() == CODE


def test_or_the_task_stands_in_the_command_and_the_code_in_the_answer(tmp_path: Path) -> None:
    source = (
        "import sys; print('First:\\n```\\nno\\n```\\nthen\\n```python\\n' + sys.argv[1] + '```')"
    )
    assert ask(_command(source, "{task}"), CODE, tmp_path, 30).problem == ""
    assert (tmp_path / "solution.py").read_text() == CODE


def test_an_answer_in_json_tells_its_tokens(tmp_path: Path) -> None:
    source = (
        "import json; print(json.dumps({'result': '```python\\nx = 1\\n```', "
        "'usage': {'input_tokens': 30, 'output_tokens': 12, 'service_tier': 'a'}}))"
    )
    told = ask(_command(source), "", tmp_path, 30)
    assert (told.problem, told.tokens) == ("", 42)
    assert (tmp_path / "solution.py").read_text() == CODE


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("print('I would rather not')", "no code: neither solution.py nor a fenced block"),
        ("import sys; sys.exit('no account')", "ended with 1: no account"),
        ("raise SystemExit(3)", "ended with 3: nothing said"),
    ],
)
def test_a_run_without_code_says_why(source: str, said: str, tmp_path: Path) -> None:
    assert ask(_command(source), "", tmp_path, 30).problem == said


def test_one_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    source = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)']); open('child', 'w').write(str(child.pid)); time.sleep(60)"
    )
    began = time.monotonic()
    assert ask(_command(source), "", tmp_path, 3).problem == "took more than 3 s"
    assert time.monotonic() - began < 30
    child = Path("/proc", (tmp_path / "child").read_text(), "status")
    assert not child.exists() or "Z (zombie)" in child.read_text()


def test_a_fence_may_hold_another() -> None:
    assert fenced('````py\nx = """\n```\n"""\n````\n') == 'x = """\n```\n"""\n'
    assert fenced("no code") == ""
