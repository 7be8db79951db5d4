"""Each task says all that its proof wants, and neither names the rule nor promises what is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from benchmarks.evals import cases, others
from benchmarks.evals.cases import Case
from benchmarks.evals.grade import bound
from tests.proofs.harness import ROOT
from tests.test_exchange import depending

RULES = cases.rules()


@pytest.fixture(params=RULES)
def case(request: pytest.FixtureRequest) -> Case:
    return cases.load(request.param)


def test_it_says_which_names_are_wanted_and_given(case: Case) -> None:
    code = " ".join(re.findall(r"`([^`]+)`", case.prompt))
    words = set(re.findall(r"\w+", code))
    assert {*case.names, *case.given} <= words


def test_it_is_short_and_names_neither_rule_nor_pack(case: Case) -> None:
    assert 20 <= len(case.prompt.split()) <= 160
    for name in ("python-backend", "packlore", case.rule):
        assert name not in case.prompt.casefold()


def test_both_blocks_have_the_names(case: Case) -> None:
    for correct in (False, True):
        assert set(case.names) <= bound(ast.parse(case.block(correct=correct).code))


def test_its_tests_are_those_of_the_proof_that_take_the_correct_block(case: Case) -> None:
    taking = {
        node.name
        for node in ast.parse(case.proof.read_bytes()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and "correct" in {argument.arg for argument in node.args.args}
    }
    named = {test.partition("[")[0] for test in case.tests}
    assert named <= taking & depending(case.proof)


def test_its_grader_is_one_that_claude_reads(case: Case) -> None:
    text = (cases.FOLDER / case.rule / "graders" / "outcome.md").read_text("utf-8")
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {"type": "llm"}
    assert body.strip() == case.outcome
    assert case.outcome


@pytest.mark.parametrize("name", others.WRITTEN)
def test_what_is_derived_for_others_is_fresh(name: str) -> None:
    written = (cases.FOLDER / name).read_text("utf-8")
    assert written == others.WRITTEN[name](), "run python -m benchmarks.evals.others"


def test_no_two_tasks_have_one_alias() -> None:
    assert len({cases.load(rule).alias for rule in RULES}) == len(RULES)


def test_each_folder_is_a_whole_case() -> None:
    folders = {path.name for path in cases.FOLDER.iterdir() if path.is_dir()}
    assert folders == set(RULES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a]\n", "must have the fields names and tests"),
        ("names: [a]\ntests: []\n", "tests must name one at least"),
        ("names: [1]\ntests: [a]\n", "names must list names"),
        ("- a\n", "must have the fields"),
    ],
)
def test_what_cannot_judge_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a-rule").mkdir()
    (tmp_path / "a-rule" / "proof.yml").write_text(text)
    with pytest.raises(ValueError, match=said):
        cases.load("a-rule", tmp_path)


def test_every_rule_has_a_case_or_a_reason() -> None:
    reasons = yaml.safe_load((cases.FOLDER / "none.yml").read_text("utf-8")) or {}
    assert all(reasons.values())
    every = {path.stem for path in (ROOT / "rules").glob("[!_]*.md")}
    assert not set(reasons) & set(RULES)
    assert set(reasons) | set(RULES) == every
