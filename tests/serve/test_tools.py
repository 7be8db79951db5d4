"""The tools and prompts as plain functions over a library; no protocol."""

from __future__ import annotations

import inspect
import re
from pathlib import Path, PurePosixPath

import pytest

from packlore.errors import BadArgumentError, NotFoundError
from packlore.library import Library
from packlore.serve.skills import resources
from packlore.serve.tools import (
    MAX_IDS,
    PROMPTS,
    TOOLS,
    Prompts,
    Tools,
    complete,
    description,
    instructions,
)
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
        "sure",
    }


def test_read_gives_rules_and_documents_in_the_order_asked_for(library: Library) -> None:
    answer = Tools(library).read_rules(["checklists/asyncio.md", "pooling-size"])
    assert answer.text.index("# Check") < answer.text.index("# Size the pool")
    assert "await read()" in answer.text
    assert "await read()" not in Tools(library).read_rules(["pooling-size"], brief=True).text


def test_what_there_is_is_read_and_what_is_not_is_named(library: Library) -> None:
    answer = Tools(library).read_rules(["asyncio-timeout", "pooling-siz", "nothing/like/it"])
    lines = answer.text.split("\n")
    assert lines[0].startswith("Missing: no rule or file 'pooling-siz'; nearest: pooling-size")
    assert lines[1].startswith("Missing: no rule or file 'nothing/like/it'")
    assert "await read_bounded()" in answer.text
    assert [each["id"] for each in answer.data["items"]] == ["asyncio-timeout"]
    assert answer.data["missing"] == lines[:2]


def test_ids_of_which_there_is_none_are_an_error_that_names_each(library: Library) -> None:
    with pytest.raises(NotFoundError, match=r"nearest: pooling-size.*\n.*'xyzzy'"):
        Tools(library).read_rules(["pooling-siz", "xyzzy"])


@pytest.mark.parametrize(
    "name",
    [
        "skill://own/rules/asyncio-timeout.md",
        "SKILL://own/rules/asyncio-timeout",
        "skill://own/rules%2Fasyncio-timeout.md",
        "./rules/asyncio-timeout.md",
        "/home/me/.claude/skills/own/rules/asyncio-timeout.md",
        "C:\\skills\\own\\rules\\asyncio-timeout.md",
    ],
)
def test_a_rule_is_read_by_its_uri_and_by_its_path_on_a_machine(
    library: Library, name: str
) -> None:
    answer = Tools(library).read_rules([name, "asyncio-timeout"])
    assert [each["id"] for each in answer.data["items"]] == ["asyncio-timeout"]
    assert answer.text.count("# Bound each call") == 1


@pytest.mark.parametrize(
    "name", ["other/asyncio-timeout", "skill://other/asyncio-timeout", "rules"]
)
def test_a_rule_of_a_pack_that_is_not_there_is_none(library: Library, name: str) -> None:
    with pytest.raises(NotFoundError, match="no rule or file"):
        Tools(library).read_rules([name])


def test_every_resource_can_be_read_by_its_uri(library: Library) -> None:
    for uri in resources(library):
        if not PurePosixPath(uri).name.startswith("_"):
            assert library.get(uri).item.path in uri


def test_where_a_filter_leaves_nothing_what_fits_without_it_is_named(library: Library) -> None:
    text = Tools(library).find_rules("bound each call", category="pooling", kind="reference").text
    assert text.startswith(
        "Nothing is in category pooling, kind reference. Without that filter:\n- "
    )
    assert "asyncio-timeout" in text
    text = Tools(library).find_rules("tulips", category="pooling", min_impact="low").text
    assert text.startswith("Nothing fits in category pooling, impact LOW or higher. Without that ")
    assert "filter nothing fits either." in text


@pytest.mark.parametrize(
    ("query", "hinted"),
    [
        ("wie verhindere ich dass der Kuchen nicht verbrennt", True),
        ("почему хлеб не поднимается", True),
        ("为什么面包烤不熟", True),
        ("how do I water the tulips", False),
        ("der", False),
        ("xyzzy", False),
    ],
)
def test_who_asks_in_another_language_is_told_which_one_is_spoken(
    library: Library, query: str, hinted: bool
) -> None:
    text = Tools(library).find_rules(query).text
    assert text.startswith("Nothing fits.")
    assert ("ask in English" in text) is hinted


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


def test_a_review_takes_several_categories(library: Library) -> None:
    for names in (
        "asyncio, pooling",
        "asyncio pooling",
        "Pooling,asyncio,",
        "pooling asyncio asyncio",
    ):
        text = Prompts(library).review_code(names)
        assert "- [ ] Bound it (`asyncio-timeout`)" in text
        assert text.count("pooling-size") == 1
    with pytest.raises(NotFoundError, match="no category 'poling'"):
        Prompts(library).review_code("asyncio, poling")


def test_a_plan_begins_with_the_rules_that_fit_the_task(tmp_path: Path) -> None:
    more = {
        "rules__asyncio-a.md": rule("Cancel the tulips", impact="LOW"),
        "rules__asyncio-z.md": rule("Water the garden", impact="CRITICAL"),
    }
    prompts = Prompts(Library.open([own(tmp_path, **more)]))
    listed = re.findall(r"^- ([\w-]+)", prompts.plan_work("asyncio", "cancel tulips"), re.MULTILINE)
    assert listed == ["asyncio-a", "asyncio-z", "asyncio-timeout"]
    listed = re.findall(r"^- ([\w-]+)", prompts.plan_work("asyncio"), re.MULTILINE)
    assert listed == ["asyncio-z", "asyncio-timeout", "asyncio-a"]


def test_what_a_category_costs_is_said_before_it_is_loaded(library: Library) -> None:
    text = description("load_category", library)
    cost = library.get("pooling-size").item.cost / 1000
    assert text.endswith(f"Costs at most, in tokens: asyncio {cost:.1f}k, pooling {cost:.1f}k.")
    assert description("list_rules", library) == inspect.getdoc(Tools.list_rules)


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
