"""What a pack is. Frozen and without I/O; every other module speaks in these types.

Dataclasses, not pydantic models: `packlore search` is a whole process for each question, and
importing pydantic would cost it more than reading and indexing the pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Protocol


class Impact(IntEnum):
    """How much a broken rule costs, lowest first, so that a minimum is a comparison."""

    LOW = 1
    LOW_MEDIUM = 2
    MEDIUM = 3
    MEDIUM_HIGH = 4
    HIGH = 5
    CRITICAL = 6

    @property
    def label(self) -> str:
        """The name as it stands in frontmatter: `MEDIUM-HIGH`."""
        return self.name.replace("_", "-")

    @classmethod
    def parse(cls, text: str) -> Impact | None:
        """The level that `text` names, in any case and with `-`, `_` or a space; else None."""
        return cls.__members__.get(text.strip().upper().replace("-", "_").replace(" ", "_"))


Kind = Literal["rule", "skill", "reference", "example", "checklist", "asset"]
KINDS: tuple[Kind, ...] = ("rule", "skill", "reference", "example", "checklist", "asset")


def tokens(text: str) -> int:
    """What `text` costs an agent, by the usual estimate of four UTF-8 bytes to a token."""
    return -(-len(text.encode("utf-8")) // 4)


Level = Literal["error", "warning"]
WARNINGS = frozenset({"field-empty", "language", "title-length", "unfilled"})
"""Codes of problems that leave a pack right but poorer: a rule that is harder to find or to read,
or that its author has not finished. All others are errors: somebody would read something else
than its author wrote, or would miss what the pack's form promises."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something odd in a pack: where it stands, a stable code, and what to do about it."""

    path: str
    line: int
    code: str
    message: str

    @property
    def level(self) -> Level:
        """How bad it is, by its code: `lint` fails on errors, and on warnings if told to."""
        return "warning" if self.code in WARNINGS else "error"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.level}: {self.code} {self.message}"


def unreadable(path: str, error: Exception) -> Problem:
    """What is said of a file on which our own code stumbled."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return Problem(path, 1, "unreadable", f"left out: {reason}")


@dataclass(frozen=True, slots=True)
class PackFile:
    """One served file: `path` relative to the pack with `/`, and the bytes read."""

    path: str
    data: bytes
    mime: str


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced code block; `line` is the 1-based line of its first line of code in the file."""

    language: str
    code: str
    line: int


@dataclass(frozen=True, slots=True)
class Example:
    """A fence that is labelled as wrong or right; `label` is the text of that label, and `line`
    the one where it stands."""

    correct: bool
    label: str
    line: int
    fence: Fence


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what follows it up to the next heading. `prose` is without its fences."""

    title: str
    level: int
    line: int
    prose: str
    fences: tuple[Fence, ...]


class Structure(Protocol):
    """What a body is made of. Found when it is first asked for: a server lists its tools without
    having parsed any Markdown."""

    @property
    def sections(self) -> tuple[Section, ...]: ...

    @property
    def examples(self) -> tuple[Example, ...]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One problem and its cure. `id` is unique in its pack; `body` is the Markdown after the
    frontmatter, which starts at line `body_line`.
    """

    id: str
    path: str
    title: str
    category: str
    impact: Impact
    impact_description: str
    tags: tuple[str, ...]
    symptoms: tuple[str, ...]
    aliases: tuple[str, ...]
    applies: Mapping[str, str]
    related: tuple[str, ...]
    body: str
    body_line: int
    structure: Structure
    frontmatter: Mapping[str, object]

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of the body and what stands below each."""
        return self.structure.sections

    @property
    def examples(self) -> tuple[Example, ...]:
        """The fences that are labelled as wrong or right."""
        return self.structure.examples

    @property
    def cost(self) -> int:
        """Tokens of the whole rule as it is handed out."""
        return tokens(self.body)

    def example(self, *, correct: bool) -> Example | None:
        """The first right (or wrong) example."""
        return next((each for each in self.examples if each.correct is correct), None)


@dataclass(frozen=True, slots=True)
class Document:
    """A file beside the rules. `id` is its path; `text` is without frontmatter, begins at
    `line`, and is empty for a file that is not UTF-8."""

    id: str
    path: str
    kind: Kind
    title: str
    category: str
    tags: tuple[str, ...]
    rules: tuple[str, ...]
    text: str
    line: int
    structure: Structure | None

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of a Markdown file and what stands below each; none of other files."""
        return self.structure.sections if self.structure else ()

    @property
    def cost(self) -> int:
        """Tokens of the document's text."""
        return tokens(self.text)


@dataclass(frozen=True, slots=True)
class Category:
    """A group of rules, in the order in which `_sections.md` names them."""

    id: str
    title: str
    impact: Impact | None
    description: str


@dataclass(frozen=True, slots=True)
class Pack:
    """A skill folder, read once. `folder` says where it stood among others that were read with it
    (`""` at the root); `frontmatter` is that of SKILL.md.
    """

    name: str
    folder: str
    version: str
    description: str
    frontmatter: Mapping[str, object]
    categories: tuple[Category, ...]
    rules: tuple[Rule, ...]
    documents: tuple[Document, ...]
    files: tuple[PackFile, ...]
    problems: tuple[Problem, ...]
