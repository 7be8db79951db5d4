"""Folder to packs: what is served, and what damage costs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from packlore.errors import NoPackError
from packlore.pack.model import Impact, Pack
from packlore.pack.read import MAX_FILE, read
from tests.packs import FOREIGN_RULE, own, rule, write


def one(folder: Path) -> Pack:
    (pack,) = read(folder)
    return pack


def codes(pack: Pack) -> dict[str, str]:
    return {problem.path: problem.code for problem in pack.problems}


def test_a_pack_in_our_form_reads_without_a_problem(tmp_path: Path) -> None:
    pack = one(own(tmp_path))
    assert (pack.name, pack.version, pack.problems) == ("own", "1.2.3", ())
    (found,) = pack.rules
    assert (found.id, found.category, found.impact) == ("asyncio-timeout", "asyncio", Impact.HIGH)
    assert found.symptoms == ("TimeoutError: … took too long",)
    assert found.applies == {"python": ">=3.11"}
    assert [category.id for category in pack.categories] == ["asyncio", "pooling"]


def test_the_raw_bytes_are_kept(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf---\r\ntitle: T\r\nimpact: LOW\r\n---\r\n# T\r\n"
    pack = one(own(tmp_path, **{"rules__asyncio-bom.md": data}))
    file = next(each for each in pack.files if each.path == "rules/asyncio-bom.md")
    assert file.data == data
    assert next(each for each in pack.rules if each.id == "asyncio-bom").title == "T"


def test_only_the_named_folders_are_served(tmp_path: Path) -> None:
    more = {"server__x.md": "# x", "notes.md": "# x", "rules__.hidden.md": "# x"}
    pack = one(own(tmp_path, references__a="x", **more))
    assert {file.path for file in pack.files} == {
        "SKILL.md",
        "rules/_sections.md",
        "rules/asyncio-timeout.md",
        "references/a",
    }


def test_a_pack_of_other_people_is_read_as_they_meant_it(tmp_path: Path) -> None:
    pack = one(own(tmp_path, **{"references__pooling-wait.md": FOREIGN_RULE}))
    found = next(each for each in pack.rules if each.id == "pooling-wait")
    assert found.impact is Impact.MEDIUM_HIGH
    assert found.category == "pooling"
    assert found.tags == ("timeout", "waiting")
    assert len(found.examples) == 2


def test_nested_skills_are_packs_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        own(tmp_path / "skills" / name, name)
    own(tmp_path / "node_modules" / "three", "three")
    assert [(pack.name, pack.folder) for pack in read(tmp_path)] == [
        ("one", "skills/one"),
        ("two", "skills/two"),
    ]


def test_damage_costs_nothing_but_itself(tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text(rule("Secret"))
    folder = own(
        tmp_path / "pack",
        **{
            "rules__asyncio-yaml.md": "---\ntitle: [broken\n---\n# Broken frontmatter\n",
            "rules__asyncio-bom.md": "\ufeff" + rule("With a mark"),
            "rules__asyncio-crlf.md": rule("With CRLF").replace("\n", "\r\n"),
            "rules__asyncio-latin.md": "# Größe".encode("latin-1"),
            "rules__asyncio-large.md": b"x" * (MAX_FILE + 1),
            "rules__asyncio-empty.md": b"",
            "rules__asyncio-plain.md": "# No frontmatter\n\nText.\n",
            "rules__more__asyncio-timeout.md": rule("Same id"),
        },
    )
    (folder / "rules" / "asyncio-link.md").symlink_to(outside)
    (folder / "rules" / "asyncio-loop.md").symlink_to("asyncio-loop.md")
    pack = one(folder)
    assert codes(pack) == {
        "rules/asyncio-yaml.md": "frontmatter-yaml",
        "rules/asyncio-latin.md": "encoding",
        "rules/asyncio-large.md": "file-size",
        "rules/asyncio-empty.md": "empty",
        "rules/asyncio-plain.md": "frontmatter-missing",
        "rules/more/asyncio-timeout.md": "id-twice",
        "rules/asyncio-link.md": "link",
        "rules/asyncio-loop.md": "link",
    }
    assert {each.id for each in pack.rules} == {
        "asyncio-timeout",
        "asyncio-yaml",
        "asyncio-bom",
        "asyncio-crlf",
        "asyncio-plain",
        "rules/more/asyncio-timeout",
    }
    latin = next(each for each in pack.documents if each.path == "rules/asyncio-latin.md")
    assert latin.text == ""
    assert not any(b"Secret" in file.data for file in pack.files)


def test_a_broken_skill_file_leaves_the_rules(tmp_path: Path) -> None:
    pack = one(write(own(tmp_path / "named"), {"SKILL.md": "Größe".encode("latin-1")}))
    assert pack.name == "named"
    assert {problem.code for problem in pack.problems} == {"encoding", "no-skill"}
    assert len(pack.rules) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_in_the_pack_does_not_stop_the_reader(tmp_path: Path) -> None:
    os.mkfifo(own(tmp_path) / "rules" / "asyncio-pipe.md")
    assert codes(one(tmp_path)) == {"rules/asyncio-pipe.md": "not-a-file"}


def test_no_pack_is_an_error_that_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(NoPackError, match=r"a folder with SKILL\.md, or with rules/"):
        read(tmp_path)
    with pytest.raises(NoPackError, match="no folder at"):
        read(tmp_path / "missing")


def test_rules_without_a_skill_file_are_a_pack(tmp_path: Path) -> None:
    pack = one(write(tmp_path / "loose", {"rules/asyncio-a.md": rule("A")}))
    assert (pack.name, len(pack.rules), codes(pack)) == ("loose", 1, {"SKILL.md": "no-skill"})


def test_six_levels_of_impact_are_read_in_any_spelling(tmp_path: Path) -> None:
    for text in ("critical", "LOW-MEDIUM", "medium_high", "Medium High"):
        write(tmp_path, {"rules/a-b.md": f"---\ntitle: T\nimpact: {text}\n---\n# T\n"})
        (found,) = one(tmp_path).rules
        assert found.impact is Impact.parse(text)


def test_a_folder_that_cannot_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own(tmp_path, **{"references__deep__x.md": "# X\n"})
    scandir = os.scandir

    def refused(path: str | Path) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    (pack,) = read(folder)
    (problem,) = [each for each in pack.problems if each.code == "unreadable"]
    assert str(problem) == "references/deep:1: error: unreadable left out: Permission denied"
    assert [rule.id for rule in pack.rules] == ["asyncio-timeout"]


def test_line_ends_of_windows_are_ours_in_every_text(tmp_path: Path) -> None:
    folder = own(tmp_path, **{"examples__x.py": b"a = 1\r\nb = 2\rc = 3\n"})
    (pack,) = read(folder)
    (example,) = [each for each in pack.documents if each.kind == "example"]
    assert example.text == "a = 1\nb = 2\nc = 3\n"
