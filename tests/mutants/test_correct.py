"""`--correct FILE` gives a proof any code for its Correct block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT, RuleFile

PROOFS = ROOT / "tests" / "proofs"


def run(file: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    options = ["--tb=no", f"--correct={file}", "-o", f"cache_dir={file.parent / 'cache'}"]
    return subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("correct", "code"), [(True, 0), (False, 1)])
def test_the_tests_that_take_the_block_run_with_the_code_of_the_file(
    correct: bool, code: int, tmp_path: Path
) -> None:
    file = tmp_path / "answer.py"
    file.write_text(RuleFile.load("asyncio-taskgroup").block(correct=correct).code, "utf-8")
    done = run(file, PROOFS / "test_asyncio_taskgroup.py")
    assert done.returncode == code, done.stdout
    assert "test_incorrect" not in done.stdout


def test_it_is_for_one_proof(tmp_path: Path) -> None:
    file = tmp_path / "answer.py"
    file.touch()
    proofs = [PROOFS / f"test_asyncio_{name}.py" for name in ("taskgroup", "timeout")]
    done = run(file, *proofs)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--correct FILE is for one proof" in done.stderr + done.stdout
