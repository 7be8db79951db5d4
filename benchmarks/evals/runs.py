"""The runs of an evaluation, each in a folder of its own that says how far it is: what is there is
not done again.

`<results>/<arm>/<task>/<number>/` holds `task.md`, `solution.py`, `told.json` and `verdict.json`.
Code that somebody else puts there, an agent without a command or a person, is judged like any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.evals import arms
from benchmarks.evals.agents import SOLUTION, Told, ask
from benchmarks.evals.arms import Arm
from benchmarks.evals.cases import Case
from benchmarks.evals.grade import Verdict, grade
from packlore.library import Library


@dataclass(frozen=True)
class Run:
    """One task for one arm, once."""

    case: Case
    arm: Arm
    number: int
    results: Path

    @property
    def folder(self) -> Path:
        """Named so that the agent who works there does not read which rule is meant."""
        return self.results / self.arm / self.case.alias / str(self.number)

    @property
    def solution(self) -> Path:
        return self.folder / SOLUTION

    @property
    def told(self) -> Told | None:
        path = self.folder / "told.json"
        return Told(**json.loads(path.read_text("utf-8"))) if path.exists() else None

    @property
    def verdict(self) -> Verdict | None:
        """What was judged of the code that is there now; None where it is still to do."""
        path = self.folder / "verdict.json"
        if not path.exists() or not self.solution.exists():
            return None
        saved = json.loads(path.read_text("utf-8"))
        return Verdict(saved["ended"], saved["failed"]) if saved["of"] == self.digest else None

    @property
    def digest(self) -> str:
        """Of all that a verdict holds for."""
        parts = self.solution.read_bytes(), self.case.proof.read_bytes(), repr(self.case).encode()
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def lay(self, library: Library) -> bool:
        """Put down what the agent is given; False where there is nothing to ask: there is no draft
        to look at, or `check_code` is content with it and the draft is the answer."""
        draft = replace(self, arm=Arm.WITHOUT).solution
        if self.arm is not Arm.CHECK:
            text = arms.task(self.case)
        elif not draft.exists():
            return False
        else:
            code = draft.read_text("utf-8", "replace")
            text = arms.review(library, self.case, code)
            if not text:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.solution.write_text(code, "utf-8")
                self.keep("told.json", asdict(Told(0.0, 0)))
                return False
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.arm is Arm.SKILL and not (self.folder / arms.SKILL).exists():
            arms.install(self.folder)
        (self.folder / "task.md").write_text(text, "utf-8")
        return True

    def ask(self, command: str, limit: float) -> Told:
        """Have the agent answer. An answer of a run that ended badly is thrown away."""
        told = ask(command, (self.folder / "task.md").read_text("utf-8"), self.folder, limit)
        if told.problem:
            self.solution.unlink(missing_ok=True)
        self.keep("told.json", asdict(told))
        return told

    def grade(self) -> Verdict:
        verdict = grade(self.case, self.solution.read_text("utf-8", "replace"))
        self.keep("verdict.json", {**asdict(verdict), "of": self.digest})
        return verdict

    def keep(self, name: str, what: object) -> None:
        (self.folder / name).write_text(json.dumps(what, indent=1) + "\n", "utf-8")


def planned(cases: list[Case], chosen: list[Arm], times: int, results: Path) -> Iterator[Run]:
    """All runs, arm by arm: a draft stands before its review."""
    for arm in sorted(chosen, key=list(Arm).index):
        for case in cases:
            for number in range(1, times + 1):
                yield Run(case, arm, number, results)
