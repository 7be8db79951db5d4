"""A pack and a rule to begin with: what is written, what it says, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from packlore import author
from packlore.errors import PackError
from packlore.library import Library
from packlore.pack.model import Rule
from packlore.pack.read import read
from packlore.pack.scaffold import filled
from packlore.pack.starter import EXAMPLE_ID
from tests.packs import own, rule, write


def problems(folder: Path) -> list[str]:
    (pack,) = read(folder)
    return [str(each) for each in author.problems(pack)]


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_pack_has_no_problem_and_is_fresh(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "our-rules"
    author.init(folder)
    assert problems(folder) == []
    assert author.derive(folder, check=True) == []
    (pack,) = read(folder)
    assert pack.name == "our-rules"
    assert set(everything(folder)) == {
        "SKILL.md",
        "metadata.json",
        "rules/_sections.md",
        "rules/_template.md",
        f"rules/{EXAMPLE_ID}.md",
    }
    assert f"`{EXAMPLE_ID}`" in (folder / "SKILL.md").read_text()


def test_a_new_pack_finds_its_rule_by_title_and_symptom(tmp_path: Path) -> None:
    author.init(tmp_path / "x", "another-name")
    library = Library.open([tmp_path / "x"])
    (entry,) = library.rules()
    assert isinstance(entry.item, Rule)
    for query in (entry.item.title, *entry.item.symptoms, *entry.item.aliases):
        assert library.search(query)[0].item.id == EXAMPLE_ID
    assert library.search("how do I grow tomatoes") == ()


def test_the_example_does_as_it_says(tmp_path: Path) -> None:
    author.init(tmp_path / "x")
    ((example,),) = (pack.rules for pack in read(tmp_path / "x"))
    blocks: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    for each in example.examples:
        exec(each.fence.code, blocks[each.correct])
    stock = {"a": 0, "b": 1, "c": 0}
    with pytest.raises(RuntimeError) as raised:
        blocks[False]["drop_empty"](stock)
    assert f"RuntimeError: {raised.value}" in example.symptoms
    assert stock == {"b": 1, "c": 0}  # the change that came before stays
    blocks[True]["drop_empty"](stock := {"a": 0, "b": 1, "c": 0})
    assert stock == {"b": 1}
    for name in stock:
        stock[name] += 1  # its exception
    assert stock == {"b": 2}


@pytest.mark.parametrize("there", ["SKILL.md", "rules/_template.md", "metadata.json"])
def test_init_writes_over_nothing(tmp_path: Path, there: str) -> None:
    write(tmp_path, {there: "mine", "README.md": "mine"})
    before = everything(tmp_path)
    with pytest.raises(PackError, match=f"{there} is there already: nothing was written"):
        author.init(tmp_path, "mine")
    assert everything(tmp_path) == before


def test_init_takes_a_folder_with_other_files_and_no_file_for_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "x", {"README.md": "mine"})
    author.init(tmp_path / "x")
    assert problems(tmp_path / "x") == []
    with pytest.raises(PackError, match="is no folder"):
        author.init(tmp_path / "x" / "README.md", "a")
    with pytest.raises(PackError, match="is no folder"):
        author.init(tmp_path / "x" / "README.md" / "a")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "SKILL.md").symlink_to("nowhere")
    with pytest.raises(PackError, match=r"SKILL\.md is there already"):
        author.init(tmp_path / "y")


@pytest.mark.parametrize("name", ["Our Rules", "a--b", "-a", "ünder", "x" * 65, "a/b"])
def test_a_name_that_no_skill_may_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError, match="give one with --name"):
        author.init(tmp_path / "x", name)
    assert not (tmp_path / "x").exists()


def test_a_new_rule_comes_from_the_packs_own_template(tmp_path: Path) -> None:
    template = (
        rule("A title").replace("- None.", "- Ask Jo.").replace("related: []", "related: [] #")
    )
    folder = own(tmp_path, **{"rules___template.md": template.replace("\n", "\r\n")})
    author.add_rule(folder, "pooling-idle-timeout")
    made = (folder / "rules" / "pooling-idle-timeout.md").read_bytes().decode()
    assert made.count("\n") == made.count("\r\n")
    changed = {"title: ", "category: ", "impact: ", "# "}
    for old, new in zip(template.splitlines(), made.splitlines(), strict=True):
        assert old == new or any(old.startswith(each) for each in changed)
    (pack,) = read(folder)
    (new_rule,) = [each for each in pack.rules if each.id == "pooling-idle-timeout"]
    assert (new_rule.title, new_rule.category) == ("Idle timeout", "pooling")
    assert new_rule.impact.label == "MEDIUM"
    assert "- Ask Jo." in new_rule.body


def test_without_a_template_ours_is_taken_and_what_is_not_filled_in_is_a_warning(
    tmp_path: Path,
) -> None:
    folder = own(tmp_path)
    new = author.add_rule(folder, "pooling-idle-timeout")
    assert list(new.files) == ["rules/pooling-idle-timeout.md"]
    write(folder, {"SKILL.md": (folder / "SKILL.md").read_text() + "- `pooling-idle-timeout`\n"})
    found = [each for pack in read(folder) for each in author.problems(pack)]
    assert {(each.code, each.level) for each in found} == {("unfilled", "warning")}
    assert {each.path for each in found} == {"rules/pooling-idle-timeout.md"}
    text = "".join(each.message for each in found)
    for wanted in ("impactDescription", "symptoms", "aliases", "two or three sentences", "Correct"):
        assert wanted in text


@pytest.mark.parametrize("name", ["pooling-404", "pooling-true", "pooling-null", "pooling-1-2"])
def test_a_title_stays_text(tmp_path: Path, name: str) -> None:
    author.add_rule(own(tmp_path), name)
    ((made,),) = ([each for each in pack.rules if each.id == name] for pack in read(tmp_path))
    assert isinstance(made.frontmatter["title"], str)
    assert made.sections[0].title == made.title


def test_a_field_that_a_template_lacks_is_not_added() -> None:
    (pack,) = read(Path(__file__).parents[2])
    assert filled("# T\n\nText.\n", "asyncio-x", pack.categories[0]) == "# X\n\nText.\n"


def test_a_proof_and_a_detector_come_along_where_the_pack_has_such(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"rules__asyncio-timeout.yml": "id: a\nlanguage: TypeScript\n"})
    (folder / "tests" / "proofs").mkdir(parents=True)
    new = author.add_rule(folder, "pooling-idle-timeout")
    proof, detector = "tests/proofs/test_pooling_idle_timeout.py", "rules/pooling-idle-timeout.yml"
    assert list(new.files) == ["rules/pooling-idle-timeout.md", proof, detector]
    assert "pooling-idle-timeout" in (folder / proof).read_text()
    compile((folder / proof).read_text(), proof, "exec")
    made = (folder / detector).read_text()
    assert "id: pooling-idle-timeout\nlanguage: TypeScript\n" in made
    assert [each.partition(":")[0] for each in new.steps] == [
        "rules/pooling-idle-timeout.md",
        proof,
        detector,
        "rules/pooling-idle-timeout.md",
    ]
    own_ones = {
        "tests/proofs/_template.py": '"""CATEGORY-NAME: ours."""\n',
        "rules/_template.yml": "id: CATEGORY-NAME # ours\n",
    }
    write(folder, dict(own_ones))
    author.add_rule(folder, "pooling-other")
    assert (
        folder / "tests/proofs/test_pooling_other.py"
    ).read_text() == '"""pooling-other: ours."""\n'
    assert (folder / "rules/pooling-other.yml").read_text() == "id: pooling-other # ours\n"


def test_the_checklist_of_the_category_is_named(tmp_path: Path) -> None:
    head = "---\ntitle: T\ncategory: {}\ntags:\n  - a\nrules:\n  - asyncio-timeout\n---\n# T\n"
    lists = {f"checklists__{each}.md": head.format(each) for each in ("asyncio", "pooling")}
    new = author.add_rule(own(tmp_path, **lists), "pooling-x")
    assert new.steps[-1] == "checklists/pooling.md: an item that ends with `pooling-x`"


@pytest.mark.parametrize("there", ["rules/pooling-x.md", "tests/proofs/test_pooling_x.py"])
def test_new_writes_over_nothing(tmp_path: Path, there: str) -> None:
    folder = own(tmp_path)
    write(folder, {there: "mine", "tests/proofs/test_a.py": ""})
    before = everything(folder)
    with pytest.raises(PackError, match=f"{there} is there already: nothing was written"):
        author.add_rule(folder, "pooling-x")
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("poling-x", "no category 'poling'; nearest: pooling; there are: asyncio, pooling"),
        ("zebra", "no category 'zebra'; there are: asyncio, pooling"),
        ("pooling", "give CATEGORY-NAME, such as pooling-example"),
        ("pooling-", "not lower-case words with hyphens"),
        ("pooling-X", "not lower-case words with hyphens"),
        ("../pooling-x", "not lower-case words with hyphens"),
    ],
)
def test_a_name_without_a_known_category_is_told_with_the_nearest(
    tmp_path: Path, name: str, said: str
) -> None:
    folder = own(tmp_path)
    before = everything(folder)
    with pytest.raises(PackError) as refused:
        author.add_rule(folder, name)
    assert said in str(refused.value)
    assert everything(folder) == before


def test_the_longest_category_is_meant(tmp_path: Path) -> None:
    sections = "# C\n\n## A (db)\n\n## B (db-pool)\n"
    author.add_rule(own(tmp_path, **{"rules___sections.md": sections}), "db-pool-size")
    ((made,),) = (
        [each for each in pack.rules if each.id == "db-pool-size"] for pack in read(tmp_path)
    )
    assert (made.category, made.title) == ("db-pool", "Size")


def test_a_folder_of_packs_is_not_one(tmp_path: Path) -> None:
    own(tmp_path / "one")
    with pytest.raises(PackError, match="is not a pack: give the folder"):
        author.add_rule(tmp_path, "pooling-x")


def test_what_is_built_says_what_was_made(tmp_path: Path) -> None:
    author.init(tmp_path / "x")
    metadata = json.loads((tmp_path / "x" / "metadata.json").read_text())
    assert (metadata["version"], metadata["ruleCount"]) == ("0.1.0", 1)
