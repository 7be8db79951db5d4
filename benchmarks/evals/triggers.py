"""The prompts of `evals/triggers.yml`: which should load the skill, and which should not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.evals.cases import FOLDER

CASE = """\
name: {name}
schema_version: "1"
execution:
  prompt: {prompt}
  max_turns: 2
  allowed_tools: [Skill]
graders:
  - name: loads the skill
    type: tool_used
    tool: Skill
    input_match: python-backend
    {wanted}
"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`why` is what in SKILL.md's description calls for it, or why it would be of no use."""

    text: str
    loads: bool
    why: str


def prompts() -> list[Prompt]:
    """All, those that should load it first."""
    listed = yaml.safe_load((FOLDER / "triggers.yml").read_text("utf-8"))
    should = [Prompt(each["prompt"], True, each["by"]) for each in listed["should"]]
    return should + [
        Prompt(each["prompt"], False, each["because"]) for each in listed["should_not"]
    ]


def as_json() -> str:
    """In the form that skill-creator reads."""
    rows = [{"query": each.text, "should_trigger": each.loads} for each in prompts()]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def write_cases(folder: Path) -> None:
    """A case of each for `claude plugin eval`: was the skill loaded, or left alone?"""
    for number, each in enumerate(prompts(), 1):
        name = f"trigger-{number:02}-{'loads' if each.loads else 'leaves'}"
        wanted = "min: 1" if each.loads else "max: 0"
        (folder / name).mkdir(parents=True, exist_ok=True)
        text = CASE.format(name=name, prompt=json.dumps(each.text), wanted=wanted)
        (folder / name / "case.yaml").write_text(text, "utf-8")
