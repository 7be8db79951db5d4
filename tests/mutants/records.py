"""What is known of mutants: a record that is derived, and reasons that are written.

`tests/proofs/mutants/<rule>.json`, or `tests/references/mutants/<reference>.json`, says how many mutants there are and which the proof did not
notice, with digests of what it holds for. `<rule>.yml` gives a reason for each of those.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.blocks import python_blocks
from tests.mutants.generate import Mutant, block_digest, digest, mutants
from tests.proofs.harness import ROOT, Block, RuleFile
from tests.references.harness import PATHS

WANTED = 0.9  # of the mutants of each category are noticed


@dataclass(frozen=True)
class Subject:
    """A rule's Correct block and its proof.

    What it has read it keeps, for a run must not be recorded for what was changed meanwhile.
    `folder` is where the record and the reasons lie: beside the proof, unless a test says another.
    """

    name: str
    folder: Path = ROOT / "tests" / "proofs" / "mutants"

    @property
    def category(self) -> str:
        return self.name.partition("-")[0]

    @cached_property
    def code(self) -> str:
        """What is given to `--correct`, as it stands."""
        return RuleFile.load(self.name).block(correct=True).code

    @cached_property
    def mutants(self) -> list[Mutant]:
        return mutants(self.code)

    @property
    def proof(self) -> Path:
        return ROOT / "tests" / "proofs" / f"test_{self.name.replace('-', '_')}.py"

    @property
    def block(self) -> str:
        """A digest of the code that is changed."""
        return block_digest(self.code)

    def record(self, survivors: list[str]) -> Record:
        """The record of a run that is over: of all mutants, these were not noticed."""
        return Record(*self._digests, len(self.mutants), sorted(survivors))

    @cached_property
    def _digests(self) -> tuple[str, str, str]:
        names = digest(each.name for each in self.mutants)
        return self.block, digest([self.proof.read_text("utf-8")]), names

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


@dataclass(frozen=True)
class Reference(Subject):
    """The blocks of a reference, all of which its tests run."""

    folder: Path = ROOT / "tests" / "references" / "mutants"

    @property
    def category(self) -> str:
        return "references"

    @property
    def _blocks(self) -> list[Block]:
        return [block for block, _ in python_blocks(PATHS[self.name])]

    @cached_property
    def code(self) -> str:
        return PATHS[self.name].read_text("utf-8")

    @cached_property
    def mutants(self) -> list[Mutant]:
        """Each is the whole text with a change in one block, whose definition its name begins with."""
        found = []
        lines = self.code.split("\n")
        for block in self._blocks:
            first = re.search(r"^(?:(?:async )?def|class) (\w+)", block.code, re.MULTILINE)
            first = first or re.search(r"^(\w+)(?:: .*)? = ", block.code, re.MULTILINE)
            key = first[1] if first else str(block.line)
            before = lines[: block.line - 1]
            after = lines[block.line - 1 + len(block.code.splitlines()) :]
            for each in mutants(block.code):
                text = "\n".join([*before, *each.code.splitlines(), *after])
                line = block.line - 1 + each.line
                found.append(Mutant(f"{key}: {each.name}", text, line))
        return found

    @property
    def proof(self) -> Path:
        return ROOT / "tests" / "references" / f"test_{self.name.replace('-', '_')}.py"

    @property
    def block(self) -> str:
        return digest(block_digest(each.code) for each in self._blocks)


def rules() -> list[str]:
    return sorted(path.stem for path in (ROOT / "rules").glob("[!_]*.md"))


def subject(name: str) -> Subject:
    """That of a rule or a reference."""
    return Reference(name) if name in PATHS else Subject(name)


def names() -> list[str]:
    """Of all rules, then of the references that have a block which is run."""
    return [*rules(), *(each for each in PATHS if Reference(each).mutants)]
