"""Where ruff speaks of a line as well, we say something else: what to do, or why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check.detectors import CASES, findings

RULES = "ASYNC,RUF006,B008,FAST"


def words(text: str) -> str:
    """Without marks and capitals, so that only the words count."""
    return " ".join(re.findall(r"\w+", text.lower()))


def ruff(path: Path) -> dict[int, list[str]]:
    """What ruff says of each line."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--exit-zero"]
    command += [
        "--select",
        RULES,
        "--target-version",
        "py311",
        "--output-format",
        "json",
        str(path),
    ]
    found: dict[int, list[str]] = {}
    for each in json.loads(subprocess.check_output(command, text=True)):
        found.setdefault(each["location"]["row"], []).append(each["message"])
    return found


def repeated(ours: str, theirs: str) -> bool:
    """Whether one of two messages is in the other."""
    first, second = words(ours), words(theirs)
    return first in second or second in first


@pytest.mark.parametrize("path", sorted(CASES.glob("*.py")), ids=lambda path: path.stem)
def test_no_message_repeats_that_of_ruff(path: Path) -> None:
    theirs = ruff(path)
    assert [
        (each.line, said)
        for each in findings(path.read_text(encoding="utf-8"))
        for said in theirs.get(each.line, ())
        if repeated(each.message, said) or repeated(each.note, said)
    ] == []


def test_both_speak_of_the_same_lines() -> None:
    """Otherwise the test above would compare nothing."""
    path = CASES / "asyncio-task-references.py"
    ours = {each.line for each in findings(path.read_text(encoding="utf-8"))}
    assert len(ours & set(ruff(path))) >= 3


def test_what_ruff_says_in_other_marks_is_seen() -> None:
    said = "Store a reference to the return value of `asyncio.create_task`"
    assert repeated("store a reference to the return value of asyncio.create_task!", said)
    assert repeated(f"{said}, or it is lost", said)
    assert not repeated("nothing holds this task", said)
