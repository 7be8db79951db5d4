"""What an agent is given: the task alone, the pack beside it, or a look at its own draft."""

from __future__ import annotations

import shutil
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from benchmarks.evals.cases import Case
from packlore.library import Library
from packlore.serve.tools import Tools
from tests.proofs.harness import ROOT

LIBRARIES = (
    *("fastapi", "starlette", "pydantic", "sqlalchemy", "asyncpg", "psycopg", "alembic"),
    *("redis", "httpx", "aiohttp", "uvicorn", "anyio", "pytest"),
)
SKILL = Path(".claude", "skills", "python-backend")
WHERE = (
    "Write one Python module to `solution.py` in this folder, or answer with it as one fenced "
    "block. Write nothing else: no tests, no other files, and no import from `__future__`."
)
PARTS = ("SKILL.md", "rules", "references", "examples", "checklists", "assets")


class Arm(StrEnum):
    """How an answer came about."""

    WITHOUT = "without"
    SKILL = "skill"
    CHECK = "check"

    @property
    def about(self) -> str:
        return {
            Arm.WITHOUT: "the task alone",
            Arm.SKILL: f"the pack in {SKILL.as_posix()}",
            Arm.CHECK: "the draft of `without`, revised once where `check_code` found something",
        }[self]


def task(case: Case) -> str:
    """The task with what every agent is told: where the code goes and what it runs on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [case.prompt, "", WHERE]
    if case.given:
        given = ", ".join(f"`{name}`" for name in case.given)
        lines.append(f"{given}: there when the module runs. Neither define nor import it.")
    return "\n".join([*lines, f"It runs on Python {python_version()}, {libraries}.", ""])


def install(folder: Path) -> None:
    """Put the pack where Claude Code and others look for skills, as installers do."""
    for part in PARTS:
        source, target = ROOT / part, folder / SKILL / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("_*.json"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def review(library: Library, case: Case, draft: str) -> str:
    """The task of a second turn: the draft, and what the tool `check_code` answers to it. Empty
    where it has nothing to say."""
    answer = Tools(library).check_code(code=draft)
    if not answer.data["findings"]:
        return ""
    return "\n".join(
        [
            task(case),
            "This is your draft:",
            "",
            "```python",
            draft.rstrip(),
            "```",
            "",
            "`check_code` says of it:",
            "",
            answer.text.rstrip(),
            "",
            "Write the module again where that is right, and as it stands where it is not.",
            "",
        ]
    )
