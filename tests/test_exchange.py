"""A proof that would pass with its blocks exchanged proves nothing: each must fail then."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(1800)  # the first test runs all proofs
PROOFS = sorted((ROOT / "tests" / "proofs").glob("test_*.py"))


def depending(path: Path) -> set[str]:
    """The names of the tests that are given a block."""
    return {
        node.name
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and {"incorrect", "correct"} & {argument.arg for argument in node.args.args}
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Of every proof, each test and how it ended with the blocks exchanged."""
    report = tmp_path_factory.mktemp("exchange") / "report.json"
    command = [sys.executable, "-m", "pytest", "tests/proofs", "--exchange", f"--outcomes={report}"]
    subprocess.run([*command, "-q", "--tb=no"], cwd=ROOT, capture_output=True, check=False)
    found: dict[str, dict[str, str]] = json.loads(report.read_text())
    return found


@pytest.mark.parametrize("path", PROOFS, ids=lambda path: path.stem)
def test_every_test_of_a_block_fails_with_the_other(
    path: Path, outcomes: dict[str, dict[str, str]]
) -> None:
    ended = outcomes[path.name]
    wanted = depending(path)
    assert wanted
    for name in wanted:
        cases = {ended[each] for each in ended if each.partition("[")[0] == name}
        assert cases == {"failed"}, f"{name}: {cases}"


@pytest.mark.parametrize("path", PROOFS, ids=lambda path: path.stem)
def test_a_proof_runs_both_blocks(path: Path) -> None:
    arguments = {
        argument.arg
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in node.args.args
    }
    assert {"incorrect", "correct"} <= arguments
