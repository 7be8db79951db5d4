"""Runs the blocks of a rule as they stand in its Markdown, and remembers what was seen."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from packlore.pack.parse import Parsed, parse
from tests.services import Server

ROOT = Path(__file__).parents[2]
_GIVEN = re.compile(r"^# given: (?P<names>[\w, ]+)$", re.MULTILINE)
_numbers = count()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a rule; `line` is its first line of code in `path`."""

    path: str
    line: int
    code: str
    correct: bool

    @property
    def given(self) -> tuple[str, ...]:
        """The names that the block says it is given, in its line `# given: a, b`."""
        match = _GIVEN.search(self.code)
        return tuple(name.strip() for name in match["names"].split(",")) if match else ()

    def run(self, **given: Any) -> Any:
        """Execute the block as a module of its own and return that module.

        Tracebacks point into the Markdown. The module is registered, since pydantic, FastAPI and
        SQLAlchemy look annotations up by module name.
        """
        assert set(given) == set(self.given), f"{self.path} says it is given {self.given}"
        module: Any = ModuleType(f"block_{next(_numbers)}")
        del module.__spec__  # from 3.15 on, a traceback warns of one without a loader
        sys.modules[module.__name__] = module
        module.__dict__.update(given, __file__=str(ROOT / self.path))
        code = compile("\n" * (self.line - 1) + self.code, self.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)
        return module


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A rule as its proof needs it."""

    id: str
    path: str
    parsed: Parsed

    @classmethod
    def load(cls, rule_id: str) -> RuleFile:
        path = f"rules/{rule_id}.md"
        return cls(rule_id, path, parse((ROOT / path).read_bytes().decode(), path))

    def block(self, *, correct: bool) -> Block:
        found = [each for each in self.parsed.examples if each.correct is correct]
        assert len(found) == 1, f"{self.path} has {len(found)} blocks for correct={correct}"
        return Block(self.path, found[0].fence.line, found[0].fence.code, correct)

    @property
    def symptoms(self) -> tuple[str, ...]:
        listed = self.parsed.frontmatter.get("symptoms") or []
        assert isinstance(listed, list)
        return tuple(str(each) for each in listed)


def _pattern(symptom: str) -> re.Pattern[str]:
    parts = (re.escape(" ".join(part.split())) for part in symptom.split("…"))
    return re.compile(".*?".join(parts), re.DOTALL)


@dataclass(slots=True)
class Witness:
    """What one proof saw. `incorrect` and `correct` are the sentences of evidence.md."""

    texts: list[str] = field(default_factory=list)
    incorrect: str = ""
    correct: str = ""
    servers: dict[str, set[str]] = field(default_factory=dict)

    def ran_on(self, server: Server) -> None:
        """Remember a server and its version."""
        self.servers.setdefault(server.name, set()).add(server.version)

    def saw(self, *things: str | BaseException) -> None:
        """Remember a text, or an exception with its causes and its group, as Python prints it."""
        for thing in things:
            text = thing if isinstance(thing, str) else "".join(traceback.format_exception(thing))
            self.texts.append(" ".join(text.split()))

    def observed(self, *, incorrect: str = "", correct: str = "") -> None:
        """State in a few words, with figures, what a block did; it goes into evidence.md."""
        self.incorrect = incorrect or self.incorrect
        self.correct = correct or self.correct

    def unseen(self, symptoms: Iterable[str]) -> list[str]:
        """The symptoms that stand in none of the texts, letter for letter but for their `…`."""
        return [
            symptom
            for symptom in symptoms
            if not any(_pattern(symptom).search(text) for text in self.texts)
        ]
