"""What is known of the mutants of each rule: a record that is derived, and reasons that are written.

`tests/proofs/mutants/<rule>.json` says how many mutants there are and which the proof did not
notice, with digests of what it holds for. `<rule>.yml` gives a reason for each of those.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.mutants.generate import Mutant, block_digest, digest, mutants
from tests.proofs.harness import ROOT, RuleFile

FOLDER = ROOT / "tests" / "proofs" / "mutants"
WANTED = 0.9  # of the mutants of each category are noticed


@dataclass(frozen=True)
class Subject:
    """A rule's Correct block and its proof."""

    name: str
    folder: Path = FOLDER

    @cached_property
    def code(self) -> str:
        return RuleFile.load(self.name).block(correct=True).code

    @cached_property
    def mutants(self) -> list[Mutant]:
        return mutants(self.code)

    @property
    def proof(self) -> Path:
        return ROOT / "tests" / "proofs" / f"test_{self.name.replace('-', '_')}.py"

    def record(self, survivors: list[str]) -> Record:
        """The record of a run that is over: of all mutants, these were not noticed."""
        names = digest(each.name for each in self.mutants)
        proof = digest([self.proof.read_text("utf-8")])
        return Record(block_digest(self.code), proof, names, len(self.mutants), sorted(survivors))

    @property
    def reasons_path(self) -> Path:
        return self.folder / f"{self.name}.yml"

    @property
    def record_path(self) -> Path:
        return self.folder / f"{self.name}.json"

    def load(self) -> Record | None:
        """The record; None where there is none of this form."""
        try:
            return Record(**json.loads(self.record_path.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, record: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n"
        self.record_path.write_text(text, "utf-8")

    @property
    def reasons(self) -> dict[str, Any]:
        """Why no test can see a mutant, by the mutant's name."""
        read = self._reasons()
        return read if isinstance(read, dict) else {}

    def _reasons(self) -> Any:
        if not self.reasons_path.exists():
            return {}
        return yaml.safe_load(self.reasons_path.read_text("utf-8")) or {}

    def stale(self) -> str:
        """Why the record does not hold any more; empty where it does."""
        record = self.load()
        if record is None:
            return "has no record"
        now = self.record(record.survivors)
        for what, text in (("block", "block"), ("proof", "proof"), ("mutants", "operators")):
            if getattr(record, what) != getattr(now, what):
                return f"was recorded with another {text}"
        return ""

    def unlisted(self) -> list[str]:
        """What the record says that the proof does not notice, and nobody has given a reason for."""
        record = self.load()
        return [name for name in record.survivors if name not in self.reasons] if record else []

    def misfits(self) -> list[str]:
        """What is wrong with the reasons, as the record is."""
        record = self.load()
        survivors = record.survivors if record else []
        known = {each.name for each in self.mutants}
        found = [] if isinstance(self._reasons(), dict) else ["not a map of names to reasons"]
        for name, reason in self.reasons.items():
            if name not in survivors:
                found.append(f"`{name}` {'is noticed' if name in known else 'is no mutant'}")
            elif not isinstance(reason, str) or len(reason.split()) < 3:
                found.append(f"`{name}` has no reason")
        return [f"{self.name}.yml: {each}" for each in found]


@dataclass(frozen=True, slots=True)
class Record:
    """`block`, `proof` and `mutants` are digests: of the code, the proof, and the names."""

    block: str
    proof: str
    mutants: str
    total: int
    survivors: list[str]

    @property
    def killed(self) -> int:
        return self.total - len(self.survivors)


def rules() -> list[str]:
    return sorted(path.stem for path in (ROOT / "rules").glob("[!_]*.md"))
