"""Mutants are run each in a process of its own, and nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.records import Subject, rules
from tests.mutants.run import tasks
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)

SERVE = """
import json, sys
from pathlib import Path
from tests.mutants import session
session.FLOOR = 1.0
session.serve(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
"""
CONFTEST = """
from pathlib import Path
import pytest
from tests.conftest import *

@pytest.fixture
def correct(request):
    return Path(request.config.getoption("--correct")).read_text()
"""
PROOF = """
import os, subprocess, sys, time

def test_one(correct):
    names = {}
    exec(correct, names)
    assert names["answer"] == 42

def test_two(correct, database, tmp_path):
    names = {"database": database, "tmp_path": tmp_path, "helper": helper}
    exec(correct, names)
    assert "other" in names

def test_of_the_text(correct):
    class block:
        code = correct
    assert "x" * 10 not in block.code

def test_that_takes_no_block():
    raise AssertionError

def helper(code):
    return subprocess.Popen([sys.executable, "-c", code])
"""
GREEN = "answer, other = 42, 1"


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    path = tmp_path / "test_proof.py"
    path.write_text(PROOF)
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    for _ in range(100):
        if not list(folder.iterdir()):
            break
        time.sleep(0.05)
    assert not list(folder.iterdir())


def serve(proof: Path, *codes: str) -> list[dict[str, Any]]:
    """What the process of a rule says of some codes; the first is the block as it stands."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as said:
        subprocess.run(
            [sys.executable, "-c", SERVE, str(proof), json.dumps(codes), str(writing)],
            pass_fds=[writing],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
            timeout=300,
            check=False,
        )
        os.close(writing)
        return [json.loads(line) for line in said]


def test_a_mutant_is_noticed_by_the_first_test_that_fails(proof: Path, temporary: Path) -> None:
    first, noticed, crashed, survived = serve(proof, GREEN, "answer = 41", "1 / 0", GREEN + " ")
    assert (first["index"], first["green"]) == (0, True)
    assert (noticed["green"], noticed["test"]) == (False, "test_one")
    assert "assert 41 == 42" in noticed["why"]
    assert (crashed["green"], crashed["test"]) == (False, "test_one")
    assert "ZeroDivisionError" in crashed["why"]
    assert survived["green"]


def test_that_a_line_reads_differently_is_no_proof(proof: Path, temporary: Path) -> None:
    _, survived = serve(proof, GREEN, f"{GREEN}  # {'x' * 10}")
    assert survived["green"]


def test_a_mutant_that_hangs_is_ended_with_what_it_has_started(
    proof: Path, temporary: Path
) -> None:
    pid = temporary.parent / "pid"
    hang = f"""
{GREEN}
if "helper" in globals():
    import pathlib, signal, time
    (tmp_path / "left").touch()
    pathlib.Path({str(pid)!r}).write_text(str(helper("import time; time.sleep(600)").pid))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])
    time.sleep(600)
"""
    _, hung, after = serve(proof, GREEN, hang, GREEN + " ")
    assert (hung["green"], hung["test"]) == (False, "test_two")
    assert hung["why"].startswith("took more than")
    assert after["green"]
    stat = Path("/proc", pid.read_text(), "stat")  # a zombie waits for its parent, and has ended
    with suppress(FileNotFoundError, ProcessLookupError):
        assert stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_mutant_may_end_its_process_or_the_server(proof: Path, temporary: Path) -> None:
    leaves = f"{GREEN}\nimport os\nos._exit(0)"
    stops = f"{GREEN}\nif 'database' in globals(): database.server.stop('immediate')"
    _, left, stopped, after = serve(proof, GREEN, leaves, stops, GREEN + " ")
    assert (left["green"], left["why"]) == (False, "the tests ended without a word")
    assert stopped["green"]  # the fixture starts it again
    assert after["green"]


def test_a_proof_that_is_red_or_has_no_tests_is_broken(proof: Path, temporary: Path) -> None:
    (red,) = serve(proof, "answer = 41", GREEN)
    assert "its proof is red: test_one" in red["broken"]
    proof.write_text("def test_nothing(): pass")
    (none,) = serve(proof, GREEN)
    assert "no test takes the block" in none["broken"]


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.mutants", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_a_few_mutants_are_as_recorded(pytestconfig: pytest.Config) -> None:
    seed = str(pytestconfig.getoption("--mutant-seed"))
    done = command("--sample", "4", "--seed", seed, "--killers")
    if done.returncode == 1:  # a busy machine: what differs twice differs
        done = command("--sample", "4", "--seed", seed, "--killers")
    if "ServiceMissing" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip("a server is missing: `make servers` unpacks it where apt is")
    assert done.returncode == 0, f"again with --mutant-seed {seed}:\n{done.stderr}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["asyncio-timeou"], "did you mean asyncio-timeout?"),
        (["--jobs", "0"], "a number from 1"),
        (["--sample", "3", "--only-stale"], "do not go together"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_a_wrong_call_ends_with_2(arguments: Sequence[str], said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_mutants_are_listed_without_a_run() -> None:
    done = command("--list", "asyncio-timeout")
    names = [f"asyncio-timeout: {each.name}" for each in Subject("asyncio-timeout").mutants]
    assert done.stdout.splitlines() == names


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all(how: signal.Signals, temporary: Path) -> None:
    argv = [sys.executable, "-m", "tests.mutants", "asyncio-timeout", "--match", "timeout"]
    # A shell's background job ignores SIGINT, and what it starts does so as well.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        preexec_fn=heard,  # noqa: PLW1509 - no thread runs here
    ) as process:
        deadline = time.monotonic() + 60
        while not list(temporary.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(how)
        assert process.wait(60) == 130


def test_rules_and_jobs_become_tasks() -> None:
    one, two = (Subject(name) for name in rules()[:2])
    shared = tasks([(one, one.mutants[:5])], 2)
    assert [len(task.mutants) for task in shared] == [3, 2]
    assert [task.subject for task in tasks([(one, one.mutants), (two, two.mutants)], 2)] == [
        one,
        two,
    ]
