"""From an answer to a verdict: the rule's own proof runs it on real servers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.evals.cases import Case
from tests.proofs.harness import ROOT

Ended = Literal["right", "fault", "unusable"]
LIMIT = 600.0
"""Seconds for the tests of one answer."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S+?::(\w+)(?:\[.*?\])? - (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`right`: all tests of the case are green. `fault`: `failed` names those that are not, and
    why. `unusable`: the answer does not parse or lacks a name that the task asks for."""

    ended: Ended
    failed: Mapping[str, str] = field(default_factory=dict)


def grade(case: Case, code: str) -> Verdict:
    """Judge an answer. RuntimeError where the proof could not be run."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        return Verdict("unusable", {"the code": f"does not parse: {error}"})
    if lacking := set(case.names) - bound(tree):
        return Verdict("unusable", dict.fromkeys(sorted(lacking), "is not defined"))
    given = f"# given: {', '.join(case.given)}\n" if case.given else ""
    with tempfile.TemporaryDirectory(prefix="packlore-evals-") as folder:
        answer, report = Path(folder, "answer.py"), Path(folder, "outcomes.json")
        answer.write_text(given + re.sub(r"(?m)^# given:.*\n", "", code), "utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            *(f"{case.proof}::{test}" for test in case.tests),
        ]
        command += ["-q", "--tb=no", "-rfE", f"--correct={answer}", f"--outcomes={report}"]
        command += ["-o", f"cache_dir={folder}/cache", f"--basetemp={folder}/tmp"]
        try:
            ran = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "COLUMNS": "1000"},  # else pytest leaves reasons out
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            return Verdict("fault", {"all tests": f"took more than {LIMIT:.0f} s"})
        if not report.exists():
            last = (ran.stderr.strip() or "nothing said").splitlines()[-1]
            return Verdict("fault", {"all tests": f"ended with {ran.returncode}: {last}"[:200]})
        outcomes = json.loads(report.read_text("utf-8")).get(case.proof.name, {})
    ended = {*outcomes, *(name.partition("[")[0] for name in outcomes)}
    if missing := set(case.tests) - ended:
        raise RuntimeError(f"the proof of {case.rule} has not run {', '.join(sorted(missing))}")
    if set(outcomes.values()) == {"passed"}:
        return Verdict("right")
    why = dict(_FAILED.findall(ran.stdout))
    failed = {name.partition("[")[0] for name, how in outcomes.items() if how != "passed"}
    return Verdict("fault", {name: why.get(name, "")[:200] for name in sorted(failed)})


def bound(tree: ast.Module) -> set[str]:
    """The names that a module binds at its top, also under `if`, `try` and `with`."""
    found: set[str] = set()
    left: list[ast.AST] = list(tree.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        left.extend(ast.iter_child_nodes(node))
    return found
