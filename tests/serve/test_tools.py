"""The tools and prompts as plain functions over a library; no protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore.errors import BadArgumentError, NotFoundError
from packlore.library import Library
from packlore.serve.tools import MAX_IDS, PROMPTS, TOOLS, Prompts, Tools, complete, instructions
from tests.packs import own, rule

CHECKLIST = (
    "---\ntitle: Check\ncategory: asyncio\ntags:\n  - a\nrules:\n  - asyncio-timeout\n---\n"
    "# Check\n\n- [ ] Bound it (`asyncio-timeout`)\n"
)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    more = {
        "rules__pooling-size.md": rule("Size the pool", category="pooling"),
        "checklists__asyncio.md": CHECKLIST,
    }
    return Library.open([own(tmp_path, **more)])


def test_find_gives_the_best_rule_and_the_same_as_data(library: Library) -> None:
    answer = Tools(library).find_rules("bound each call")
    assert "await read_bounded()" in answer.text
    assert answer.data["hits"][0]["id"] == "asyncio-timeout"
    assert set(answer.data["hits"][0]) == {
        "id",
        "kind",
        "category",
        "title",
        "tokens",
        "impact",
        "score",
    }


def test_read_gives_rules_and_documents_in_the_order_asked_for(library: Library) -> None:
    answer = Tools(library).read_rules(["checklists/asyncio.md", "pooling-size"])
    assert answer.text.index("# Check") < answer.text.index("# Size the pool")
    assert "await read()" in answer.text
    assert "await read()" not in Tools(library).read_rules(["pooling-size"], brief=True).text


def test_one_unknown_id_is_told_what_is_near(library: Library) -> None:
    with pytest.raises(NotFoundError, match="nearest: pooling-size"):
        Tools(library).read_rules(["asyncio-timeout", "pooling-siz"])


@pytest.mark.parametrize("ids", [[], ["asyncio-timeout"] * (MAX_IDS + 1)])
def test_the_number_of_ids_is_bounded(library: Library, ids: list[str]) -> None:
    with pytest.raises(BadArgumentError, match=f"give 1 to {MAX_IDS}"):
        Tools(library).read_rules(ids)


def test_a_category_is_loaded_in_brief_or_whole(library: Library) -> None:
    assert "await read()" not in Tools(library).load_category("pooling").text
    assert "await read()" in Tools(library).load_category("pooling", whole=True).text


def test_the_list_names_everything(library: Library) -> None:
    text = Tools(library).list_rules().text
    assert all(name in text for name in ("asyncio-timeout", "pooling-size", "checklists/asyncio"))


def test_a_review_holds_the_checklist_and_the_code(library: Library) -> None:
    text = Prompts(library).review_code("asyncio", "await read()")
    assert "- [ ] Bound it (`asyncio-timeout`)" in text
    assert "await read()" in text
    assert "pooling-size" in Prompts(library).review_code("pooling")


def test_a_plan_names_the_rules_and_the_task(library: Library) -> None:
    text = Prompts(library).plan_work("pooling", "add a pool")
    assert "pooling-size" in text
    assert "add a pool" in text


def test_completions_begin_as_the_value_does(library: Library) -> None:
    assert complete(library, "category", "po") == ["pooling"]
    assert complete(library, "category", "PO") == ["pooling"]
    assert complete(library, "task", "po") == []


def test_every_tool_and_prompt_is_described() -> None:
    for function in (*TOOLS.values(), *PROMPTS.values()):
        assert function.__doc__


def test_instructions_are_a_few_lines(library: Library) -> None:
    text = instructions(library)
    assert "find_rules" in text
    assert len(text) < 500
