"""The line above a rule: when there is one, what it says, and that it is short."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore import answers, render
from packlore.library import Library
from packlore.pack import Rule, tokens
from packlore.project import Project, note
from tests.packs import own, rule, write
from tests.proofs.harness import ROOT

APPLIES = 'applies:\n  python: ">=3.11"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    return tmp_path / "project"


def locked(project: Path, **versions: str) -> Project:
    """A project with these versions, `_` for `-`; several with a space between them."""
    tables = (
        f'[[package]]\nname = "{name.replace("_", "-")}"\nversion = "{each}"\n'
        for name, some in versions.items()
        for each in some.split()
    )
    write(project, {"uv.lock": "\n".join(tables)})
    return Project(project)


def made(folder: Path, applies: dict[str, str], exceptions: str = "- None.") -> Rule:
    rows = "".join(f'  "{name}": "{versions}"\n' for name, versions in applies.items())
    text = rule().replace(APPLIES, f"applies:\n{rows}").replace("- None.", exceptions)
    (entry,) = Library.open([own(folder / "pack", **{"rules__asyncio-timeout.md": text})]).rules()
    assert isinstance(entry.item, Rule)
    return entry.item


def test_a_version_outside_of_what_the_rule_applies_to_is_told(
    tmp_path: Path, project: Path
) -> None:
    item = made(tmp_path, {"Zebra_DB": ">= 2.0, <3"})
    assert note(item, locked(project, zebra_db="1.4.52")) == (
        "Applies to Zebra_DB >=2.0,<3; uv.lock has 1.4.52."
    )
    assert note(item, locked(project, zebra_db="2.5")) == ""
    assert note(item, locked(project, zebra_db="2.0rc1")).endswith("has 2.0rc1.")


def test_where_nothing_is_known_nothing_is_said(tmp_path: Path, project: Path) -> None:
    item = made(tmp_path, {"zebra": ">=2.0", "lion": "any", "a b": ">=1"})
    assert note(item, locked(project, other="1.0", lion="1.0")) == ""
    assert note(item, None) == ""
    assert note(made(tmp_path, {}), locked(project, zebra="1.0")) == ""


def test_of_several_versions_one_may_be_installed(tmp_path: Path, project: Path) -> None:
    item = made(tmp_path, {"zebra": ">=2.0"})
    assert note(item, locked(project, zebra="1.4 2.0")) == (
        "Applies to zebra >=2.0; uv.lock has one of 1.4, 2.0."
    )
    assert note(item, locked(project, zebra="2.0 2.1")) == ""
    assert note(item, locked(project, zebra="1 2 3 4 5 6")).endswith("has one of 1, 2, 3, 4, ….")


def test_what_is_only_asked_for_is_not_called_installed(tmp_path: Path, project: Path) -> None:
    item = made(tmp_path, {"zebra": ">=2.0", "python": ">=3.11"})
    write(project, {"pyproject.toml": '[project]\ndependencies = ["zebra>=1.4,<3"]\n'})
    assert note(item, Project(project)) == (
        "Applies to zebra >=2.0; pyproject.toml asks for >=1.4,<3."
    )
    write(project, {".python-version": "3.10\n"})
    assert note(item, Project(project)).endswith(
        " Applies to python >=3.11; .python-version has 3.10."
    )


EXCEPTIONS = """\
- Zebra 1.0 to 1.4 kick. In Zebra 1.5 to 1.7 nothing kicks, and
  `ride` is missing.
- Lion 1.8 to 1.9 roars.
- Behind a fence it is quiet. Zebra before 1.0 has no stripes. It is grey.
- From Zebra 3.0 and later: feed it.
- `Zebra before 1.9` is the name of a book, and py-zebra before 1.9 a library.
"""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.9", "Zebra before 1.0 has no stripes."),
        ("1.0rc1", "Zebra before 1.0 has no stripes."),
        ("1.0", "Zebra 1.0 to 1.4 kick."),
        ("1.4.9", "Zebra 1.0 to 1.4 kick."),
        ("1.6", "In Zebra 1.5 to 1.7 nothing kicks, and `ride` is missing."),
        ("1.8", ""),
        ("3.1", "From Zebra 3.0 and later: feed it."),
        ("1.3 1.4", "Zebra 1.0 to 1.4 kick."),
        ("1.4 1.5", ""),
        ("1.4 2.0", ""),
    ],
)
def test_the_exception_for_that_version_is_repeated(
    tmp_path: Path, project: Path, version: str, said: str
) -> None:
    item = made(tmp_path, {"zebra": ">=2.0,<3"}, EXCEPTIONS)
    found = note(item, locked(project, zebra=version, lion="1.8"))
    assert found.endswith(f". {said}" if said else f"{version.rpartition(' ')[2]}.")


def test_an_exception_is_not_repeated_for_what_is_only_asked_for(
    tmp_path: Path, project: Path
) -> None:
    item = made(tmp_path, {"zebra": ">=2.0"}, EXCEPTIONS)
    write(project, {"pyproject.toml": '[project]\ndependencies = ["zebra>=1.4"]\n'})
    assert note(item, Project(project)).endswith("asks for >=1.4.")


@pytest.mark.parametrize(("words", "told"), [(120, 3), (200, 0)])
def test_the_line_is_bounded_whatever_the_rule_and_the_lock_hold(
    tmp_path: Path, project: Path, words: int, told: int
) -> None:
    names = {f"a{number}": ">=2.0" for number in range(500)}
    item = made(
        tmp_path, names, "".join(f"- {name} before 2.0 {'x ' * words}.\n" for name in names)
    )
    found = note(item, locked(project, **dict.fromkeys(names, " ".join(["1.0", "1." + "0" * 11]))))
    assert "\n" not in found
    assert found.count("Applies to") == 3
    assert found.count(" before 2.0 x x") == told
    assert tokens(found) < 400


def test_the_line_stands_above_the_rule_and_costs_little(tmp_path: Path, project: Path) -> None:
    library = Library.open([own(tmp_path / "pack", **{"references__a.md": "# A\n"})])
    entries = [*library.rules(), *library.documents()]
    before = render.whole(library, entries), render.in_brief(library, entries)
    hits = library.search("bound each call")
    answer = answers.hits(library, "bound each call", hits)
    write(project, {".python-version": "3.10\n"})
    library.project = Project(project)
    said = "Applies to python >=3.11; .python-version has 3.10."
    assert tokens(said) <= 15
    assert render.whole(library, entries) == f"{said}\n\n{before[0]}"
    assert render.in_brief(library, entries) == f"{said}\n\n{before[1]}"
    head, _, rest = answer.partition("\n\n")
    assert answers.hits(library, "bound each call", hits) == f"{head}\n\n{said}\n\n{rest}"
    assert answers.hit_rows(library, hits)[0]["versions"] == said
    assert [row.get("versions") for row in render.item_rows(library, entries)] == [said] + [
        None
    ] * len(entries[1:])
    write(project, {".python-version": "3.12.1\n"})
    assert render.whole(library, entries) == before[0]
    assert "versions" not in answers.hit_rows(library, hits)[0]


def test_the_rules_of_this_pack_hold_for_what_is_new_and_not_for_what_is_old(
    project: Path,
) -> None:
    rules = [each.item for each in Library.open([ROOT]).rules() if isinstance(each.item, Rule)]
    names = {name for item in rules for name in item.applies} - {"python"}
    new = locked(project, **{name.replace("-", "_"): "99.0" for name in names})
    assert {item.id for item in rules if note(item, new)} == set()
    old = locked(project, **{name.replace("-", "_"): "0.0.1" for name in names})
    expected = {item.id for item in rules if set(item.applies) - {"python"}}
    assert {item.id for item in rules if note(item, old)} == expected


def test_an_exception_of_this_pack_is_found_by_the_version(project: Path) -> None:
    (item,) = (
        each.item for each in Library.open([ROOT]).rules() if each.item.id == "sqlalchemy-sessions"
    )
    assert isinstance(item, Rule)
    said = note(item, locked(project, fastapi="0.119.1", sqlalchemy="1.4.52"))
    assert "has no `scope` in `Depends`" in said
    assert "has no `scope`" not in note(item, locked(project, sqlalchemy="1.4.52"))
