"""SKILL.md's description calls for the skill where it helps, and promises nothing that it lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.evals.triggers import prompts, write_cases
from packlore.library import Library
from tests.proofs.harness import ROOT

HEADER = (ROOT / "SKILL.md").read_text("utf-8").split("---\n")[1]
DESCRIPTION: str = yaml.safe_load(HEADER)["description"]
SHOULD = [each for each in prompts() if each.loads]
SHOULD_NOT = [each for each in prompts() if not each.loads]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open([ROOT])


def test_there_are_forty_of_each_and_none_twice() -> None:
    assert len(SHOULD) == len(SHOULD_NOT) == 40
    assert len({each.text.casefold() for each in prompts()}) == 80


def test_the_description_calls_for_each_that_should_load_it() -> None:
    for each in SHOULD:
        assert each.why in DESCRIPTION, each.text


def test_what_is_named_as_a_call_has_a_prompt() -> None:
    """Each error and each topic that the description names was thought of in a prompt."""
    named = DESCRIPTION.partition("errors such as ")[2].rstrip(".").split(", ")
    errors = [each.removeprefix("or ") for each in named]
    assert {*errors} <= {each.why for each in SHOULD}


def test_the_pack_answers_what_it_calls_for(library: Library) -> None:
    """Nothing is promised in vain. SKILL.md itself leads those who write or review a whole service,
    so that search may be silent for three of the forty."""
    assert sum(not library.search(each.text) for each in SHOULD) <= 3


def test_the_pack_is_sure_of_nothing_that_should_not_load_it(library: Library) -> None:
    sure = [each.text for each in SHOULD_NOT if _sure(library, each.text)]
    assert sure == []


def _sure(library: Library, text: str) -> bool:
    return any(hit.sure == "sure" for hit in library.search(text))


def test_each_becomes_a_case_of_claude(tmp_path: Path) -> None:
    write_cases(tmp_path)
    found = [
        yaml.safe_load(path.read_text("utf-8")) for path in sorted(tmp_path.glob("*/case.yaml"))
    ]
    assert [each["execution"]["prompt"] for each in found] == [each.text for each in prompts()]
    limits = [{"min", "max"} & set(each["graders"][0]) for each in found]
    assert limits == [{"min"}] * 40 + [{"max"}] * 40
    assert all(re.fullmatch(r"[a-z0-9-]+", each["name"]) for each in found)
