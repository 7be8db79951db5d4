"""What checking speaks in: detectors, findings and what stood in the way. Frozen and without I/O,
so that they can be sent to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from packlore.pack import line


class Level(IntEnum):
    """How sure a finding is a fault, lowest first, so that a minimum is a comparison."""

    HINT = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        """The name as it stands in a detector: `warning`."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Level | None:
        """The level that `text` names; `info` of ast-grep is a hint. None for any other text."""
        name = text.strip().upper()
        return cls.HINT if name == "INFO" else cls.__members__.get(name)


@dataclass(frozen=True, slots=True)
class Detector:
    """One ast-grep rule of a pack.

    `rule` is what the finding is shown by (`packlore show RULE`), `config` what ast-grep is given.
    `names` maps qualified names, such as `asyncio.gather`, to how the patterns spell them; a text
    that holds none of their last parts is not searched. `at` is the metavariable where the
    finding stands, else it stands at the whole match. `files` and `ignores` are globs of paths.
    """

    id: str
    rule: str
    language: str
    level: Level
    message: str
    note: str
    config: Mapping[str, Any]
    names: Mapping[str, str]
    at: str
    files: tuple[str, ...]
    ignores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where code breaks a rule. Lines and columns count from 1, columns in characters; the
    end is exclusive. `code` is the line where it stands, without its indentation."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    rule: str
    detector: str
    level: Level
    message: str
    note: str
    code: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file that was not checked, or not wholly, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return line(f"{self.path}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was seen in one file. `silenced` counts the findings that comments in it took out."""

    path: str
    findings: tuple[Finding, ...] = ()
    trouble: Trouble | None = None
    silenced: int = 0
