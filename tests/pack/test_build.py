"""What derives from a pack is written as the pack's own files are, or the reason is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.generate import generate
from packlore import author
from packlore.errors import PackError
from packlore.pack.build import build
from packlore.pack.lint import INDEX
from packlore.pack.model import tokens
from packlore.pack.read import read
from tests.packs import SKILL, own, rule, write

MARKED = SKILL.format(name="pack") + "\n<!-- rules -->\n<!-- /rules -->\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_list_of_rules_is_renewed_with_the_line_ends_of_its_file(
    tmp_path: Path, end: str
) -> None:
    folder = own(tmp_path)
    text = MARKED.replace("\n", end)
    write(folder, {"SKILL.md": text.encode()})
    assert build(folder) == ["SKILL.md", "metadata.json"]
    assert build(folder) == []
    write(folder, {"rules/asyncio-timeout.md": rule("A new title")})
    assert build(folder) == ["SKILL.md"]
    new = (folder / "SKILL.md").read_bytes().decode()
    assert new.startswith(text.partition("<!--")[0])
    assert f"- `asyncio-timeout`: A new title{end}" in new
    assert new.count("\n") == new.count(end)


def test_a_skill_without_a_list_stays_as_it_is(tmp_path: Path) -> None:
    folder = own(tmp_path)
    before = (folder / "SKILL.md").read_bytes()
    assert build(folder) == ["metadata.json"]
    assert (folder / "SKILL.md").read_bytes() == before
    assert json.loads((folder / "metadata.json").read_text())["ruleCount"] == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"SKILL.md": MARKED.replace("<!-- /rules -->", "")}, "needs a line <!-- rules -->"),
        ({"SKILL.md": MARKED.replace("<!-- rules -->", "")}, "needs a line <!-- rules -->"),
        ({"SKILL.md": MARKED.replace('"1.2.3"', "1.10")}, "metadata.version is '1.1'"),
        ({"SKILL.md": "# no frontmatter\n"}, "metadata.version is ''"),
        ({"gemini-extension.json": b"\xff"}, "gemini-extension.json is not UTF-8"),
    ],
)
def test_what_cannot_be_derived_is_told_and_nothing_is_written(
    tmp_path: Path, files: dict[str, str | bytes], said: str
) -> None:
    folder = own(tmp_path)
    write(folder, files)
    with pytest.raises(PackError) as refused:
        build(folder)
    assert said in str(refused.value)
    assert not (folder / "metadata.json").exists()


def test_many_packs_are_not_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        own(tmp_path / name)
    with pytest.raises(PackError, match="holds 2 packs: build one at a time"):
        build(tmp_path)


def skill_tokens(folder: Path) -> int:
    return tokens((folder / "SKILL.md").read_bytes().decode())


@pytest.mark.parametrize("rules", [10, 300, 2_000])
def test_a_pack_of_any_size_is_clean_and_its_skill_file_stays_under_2000_tokens(
    tmp_path: Path, rules: int
) -> None:
    folder = generate(tmp_path / "pack", rules)
    build(folder)
    assert build(folder, check=True) == []
    (pack,) = read(folder)
    assert [str(each) for each in author.problems(pack)] == []
    assert skill_tokens(folder) < 2_000
    assert (folder / INDEX).is_file() is (rules > 100)
    listed = (folder / INDEX if rules > 100 else folder / "SKILL.md").read_text()
    for rule_ in pack.rules:
        assert f"- `{rule_.id}`: {rule_.title}\n" in listed
    assert (
        f"| topic1 | {sum(each.category == 'topic1' for each in pack.rules)} |"
        in (folder / "SKILL.md").read_text()
    )


def test_the_list_leaves_the_skill_file_where_it_would_reach_2000_tokens_and_comes_back(
    tmp_path: Path,
) -> None:
    folder = own(tmp_path, **{"SKILL.md": MARKED})
    build(folder)
    size = (folder / "SKILL.md").stat().st_size

    def with_bytes(wanted: int) -> None:
        text = MARKED.replace("<!-- rules -->", "x" * (wanted - size - 1) + "\n<!-- rules -->")
        write(folder, {"SKILL.md": text})

    with_bytes(4 * 1_999)
    assert build(folder) == ["SKILL.md"]
    assert skill_tokens(folder) == 1_999
    assert not (folder / INDEX).exists()
    with_bytes(4 * 1_999 + 1)
    assert build(folder, check=True) == ["SKILL.md", INDEX]
    assert not (folder / INDEX).exists()
    assert build(folder) == ["SKILL.md", INDEX]
    text = (folder / "SKILL.md").read_text()
    assert f"[{INDEX}]({INDEX})" in text
    assert "- `asyncio-timeout`: Bound each call" not in text
    assert "- `asyncio-timeout`: Bound each call\n" in (folder / INDEX).read_text()
    write(folder, {"SKILL.md": MARKED})
    assert build(folder, check=True) == ["SKILL.md", INDEX]
    assert (folder / INDEX).exists()
    assert build(folder) == ["SKILL.md", INDEX]
    assert not (folder / INDEX).exists()
    assert build(folder) == []


def test_an_index_that_its_author_wrote_is_left_alone(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"SKILL.md": MARKED, "rules___index.md": "# Mine\n"})
    build(folder)
    write(folder, {"SKILL.md": MARKED.replace("<!-- rules -->", "x" * 8_000 + "\n<!-- rules -->")})
    with pytest.raises(PackError, match="rename it"):
        build(folder)
    assert (folder / INDEX).read_text() == "# Mine\n"


def test_a_rule_that_the_linked_index_lacks_is_told(tmp_path: Path) -> None:
    folder = generate(tmp_path / "pack", 300)
    build(folder)
    text = (folder / INDEX).read_text()
    write(
        folder, {INDEX: "\n".join(row for row in text.split("\n") if "topic1-rule-1`" not in row)}
    )
    (problem,) = [each for pack in read(folder) for each in author.problems(pack)]
    assert (problem.path, problem.code) == ("SKILL.md", "skill-rule")
    assert "topic1-rule-1:" in problem.message


def test_an_index_that_the_skill_file_does_not_link_to_names_no_rule(tmp_path: Path) -> None:
    skill = SKILL.format(name="pack").replace("`asyncio-timeout`", "none")
    folder = own(tmp_path, **{"SKILL.md": skill, "rules___index.md": "- `asyncio-timeout`\n"})
    (problem,) = [each for pack in read(folder) for each in author.problems(pack)]
    assert (problem.path, problem.code) == ("SKILL.md", "skill-rule")


def test_a_version_that_looks_like_a_group_of_a_pattern_is_written_as_it_is(tmp_path: Path) -> None:
    folder = own(tmp_path)
    skill = (folder / "SKILL.md").read_text().replace('"1.2.3"', r"'1.2.3\g<9>\1'")
    write(folder, {"SKILL.md": skill, "gemini-extension.json": '{"version": "0"}\n'})
    assert "gemini-extension.json" in build(folder)
    assert (folder / "gemini-extension.json").read_text() == '{"version": "1.2.3\\g<9>\\1"}\n'
