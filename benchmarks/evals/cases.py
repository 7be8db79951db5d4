"""The tasks: a folder in `evals/` for each rule whose proof can judge code of others.

`prompt.md` is the task as a developer would put it; `graders/outcome.md` says in words what a right
answer does. Both are read by `claude plugin eval`, too. `proof.yml` says how the rule's proof
judges: `names`, what an answer must define (a script defines none), and `tests`, those of the proof
that want nothing which the task does not say; one case of a parametrized test is named with its
brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import yaml

from tests.proofs.harness import ROOT, Block, RuleFile

FOLDER = ROOT / "evals"
FIELDS = {"names", "tests"}


@dataclass(frozen=True)
class Case:
    """One task and what judges it."""

    rule: str
    prompt: str
    outcome: str
    names: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def alias(self) -> str:
        """A name that does not tell the rule."""
        return f"task-{sha256(self.rule.encode()).hexdigest()[:6]}"

    @property
    def proof(self) -> Path:
        return ROOT / "tests" / "proofs" / f"test_{self.rule.replace('-', '_')}.py"

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The names that are there before the answer runs."""
        return self.block(correct=True).given

    def block(self, *, correct: bool) -> Block:
        """The rule's own block."""
        return RuleFile.load(self.rule).block(correct=correct)


def rules(folder: Path = FOLDER) -> list[str]:
    """The rules that have a case, by name."""
    return sorted(path.parent.name for path in folder.glob("*/proof.yml"))


def load(rule: str, folder: Path = FOLDER) -> Case:
    """The case of a rule. FileNotFoundError where it has none; ValueError says which field is not
    as it must be."""
    path = folder / rule / "proof.yml"
    fields = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(fields, dict) or set(fields) != FIELDS:
        raise ValueError(f"{path} must have the fields names and tests, and no other")
    for name, listed in fields.items():
        if not isinstance(listed, list) or {*map(type, listed)} - {str}:
            raise ValueError(f"{path}: {name} must list names")
    if not fields["tests"]:
        raise ValueError(f"{path}: tests must name one at least")
    prompt = (folder / rule / "prompt.md").read_text("utf-8").strip()
    grader = (folder / rule / "graders" / "outcome.md").read_text("utf-8")
    outcome = grader.rpartition("---\n")[2].strip()
    return Case(rule, prompt, outcome, tuple(fields["names"]), tuple(fields["tests"]))
