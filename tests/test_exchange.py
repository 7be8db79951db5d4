"""A proof that would pass with its blocks exchanged proves nothing: each must fail then."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(1800)  # the first test waits for all proofs
LANES = 5
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
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """Of every proof that is asked for, each test and how it ended with the blocks exchanged.

    Several sessions share the proofs, each with servers of its own: a test that must fail often
    waits for its time limit.
    """
    folder = tmp_path_factory.mktemp("exchange")
    collected = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    paths = [path for path in PROOFS if path.stem in collected]
    sessions = []
    for lane in range(min(LANES, len(paths))):
        command = [sys.executable, "-m", "pytest", "--exchange", "-q", "--tb=no", "--timeout=60"]
        command += [f"--outcomes={folder / str(lane)}", *map(str, paths[lane::LANES])]
        with (folder / f"{lane}.log").open("wb") as log:
            sessions.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
    for session in sessions:
        session.wait()
    found: dict[str, dict[str, str]] = {}
    for report in folder.glob("[0-9]"):
        found |= json.loads(report.read_text())
    return found


@pytest.mark.parametrize("path", PROOFS, ids=lambda path: path.stem)
def test_every_test_of_a_block_fails_with_the_other(
    path: Path, outcomes: dict[str, dict[str, str]]
) -> None:
    ended = outcomes[path.name]
    wanted = depending(path)
    assert wanted
    skipped = set()
    for name in wanted:
        cases = {ended[each] for each in ended if each.partition("[")[0] == name}
        if "skipped" in cases and os.environ.get("CI") != "true":
            skipped.add(name)
            continue
        assert cases == {"failed"}, f"{name}: {cases}"
    if skipped:
        pytest.skip(f"a server is missing for {', '.join(sorted(skipped))}")


@pytest.mark.parametrize("path", PROOFS, ids=lambda path: path.stem)
def test_a_proof_runs_both_blocks(path: Path) -> None:
    arguments = {
        argument.arg
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in node.args.args
    }
    assert {"incorrect", "correct"} <= arguments
