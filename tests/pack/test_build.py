"""What derives from a pack is written as the pack's own files are, or the reason is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packlore.errors import PackError
from packlore.pack.build import build
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
