"""Links that somebody put into a pack: none is read, and nothing is written through one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from packlore import author
from packlore.errors import PackError
from packlore.find.learn import ENOUGH
from packlore.find.model import FILE
from packlore.pack.build import MANIFESTS
from packlore.pack.lint import INDEX
from packlore.pack.read import read
from tests.packs import own, rule, write

MARKED = (
    "---\nname: own\ndescription: d\nmetadata:\n  version: '1.2.3'\n---\n# own\n"
    + "x" * 8_000
    + "\n<!-- rules -->\n<!-- /rules -->\n"
)
"""A skill file whose list of rules goes into a file of its own."""


def tree(folder: Path) -> dict[str, bytes | None]:
    """What lies in a folder: the bytes of each file, None for all else."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def link(path: Path, to: Path | str, *, folder: bool = False) -> None:
    """A link in the place of whatever is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(to, target_is_directory=folder)
    except OSError:  # Windows has none for a user without that right
        pytest.skip("this user may make no link")


ASKED = json.dumps({"asked": {"asyncio-timeout": [f"it hangs {n}" for n in range(ENOUGH)]}})
DERIVED = ("metadata.json", INDEX, *MANIFESTS, FILE)


@pytest.mark.parametrize("to", ["outside", "nowhere", "inside"])
@pytest.mark.parametrize("name", [*DERIVED, "SKILL.md"])
def test_build_writes_through_no_link(name: str, to: str, tmp_path: Path) -> None:
    folder = write(own(tmp_path / "pack"), {"SKILL.md": MARKED, "other": '{"version": "0"}\n'})
    write(tmp_path, {"asked.json": ASKED, "outside": '{"version": "0"}\n'})
    link(folder / name, folder / "other" if to == "inside" else tmp_path / to)
    before = tree(tmp_path)
    # A pack whose SKILL.md is a link has no version.
    said = "metadata.version is ''" if name == "SKILL.md" else "is a link: nothing was written"
    for check in (True, False):
        with pytest.raises(PackError, match=said):
            author.derive(folder, check=check, asked=asked(tmp_path, name))
        assert tree(tmp_path) == before


def asked(folder: Path, name: str) -> list[Path]:
    """The queries that a file derives from."""
    return [folder / "asked.json"] if FILE.startswith(name) else []


@pytest.mark.parametrize("name", sorted({Path(each).parts[0] for each in DERIVED if "/" in each}))
def test_build_writes_into_no_linked_folder(name: str, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"plugin.json": '{"version": "0"}\n'})
    write(outside, {".claude-plugin/plugin.json": '{"version": "0"}\n'})
    folder = write(own(tmp_path / "pack"), {"SKILL.md": MARKED})
    write(tmp_path, {"asked.json": ASKED})
    link(folder / name, outside, folder=True)
    before = tree(tmp_path)
    with pytest.raises(PackError, match=rf"{re.escape(name)} is a link: nothing was written"):
        author.derive(folder, asked=asked(tmp_path, name))
    assert tree(tmp_path) == before


def test_a_hard_link_to_a_derived_file_keeps_what_it_has(tmp_path: Path) -> None:
    folder = own(tmp_path / "pack")
    outside = write(tmp_path, {"outside": "precious\n"}) / "outside"
    (folder / "metadata.json").hardlink_to(outside)
    outside.chmod(0o640)
    assert author.derive(folder) == ["metadata.json"]
    assert outside.read_text() == "precious\n"
    assert json.loads((folder / "metadata.json").read_text())["version"] == "1.2.3"
    assert (folder / "metadata.json").stat().st_mode == outside.stat().st_mode
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("name", ["rules", "tests", "tests/proofs", "tests/proofs/_template.py"])
def test_new_writes_through_no_link(name: str, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"proofs/_template.py": "secret\n"})
    folder = own(tmp_path / "pack")
    rules = write(outside, {"_sections.md": (folder / "rules/_sections.md").read_text()})
    (folder / "tests" / "proofs").mkdir(parents=True)
    file = name.endswith(".py")
    link(folder / name, rules / "_sections.md" if file else rules, folder=not file)
    before = tree(tmp_path)
    with pytest.raises(PackError):
        author.add_rule(folder, "asyncio-x")
    assert tree(tmp_path) == before


def test_init_writes_through_no_link(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"a": ""})
    (tmp_path / "pack").mkdir()
    link(tmp_path / "pack" / "rules", outside, folder=True)
    before = tree(tmp_path)
    with pytest.raises(PackError, match="rules is a link: nothing was written"):
        author.init(tmp_path / "pack")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("assets/a.md", "../.git/config"),
        ("assets/a.md", "../.env"),
        ("rules/asyncio-a.md", ".hidden.md"),
        ("rules/asyncio-a.md", "../server/secret.md"),
        ("rules/asyncio-a.md", "asyncio-timeout.md"),
        ("rules/asyncio-a.md", "../../outside.md"),
        ("rules/asyncio-a.md", "nowhere.md"),
        ("rules/asyncio-a.md", "asyncio-a.md"),
        ("rules/more", "../.git"),
        ("rules/more", "../rules"),
        ("references", ".git"),
        ("references", "rules"),
        ("SKILL.md", ".env"),
        ("SKILL.md", "rules/asyncio-timeout.md"),
    ],
)
def test_no_link_of_a_pack_is_read(path: str, to: str, tmp_path: Path) -> None:
    """Nor one that stays in the pack: what it leads to is served by its own name, or is not to
    be served, as `.git/config`, which may hold a token."""
    secret = {name: rule("Secret") for name in (".git/config", ".env", "server/secret.md")}
    folder = write(own(tmp_path / "pack"), {**secret, "rules/.hidden.md": rule("Secret")})
    write(tmp_path, {"outside.md": rule("Secret")})
    link(folder / path, to, folder=(folder / path).parent.joinpath(to).is_dir())
    (pack,) = read(folder)
    assert path not in [each.path for each in pack.files]
    assert not any(b"Secret" in each.data for each in pack.files)
    (problem,) = [each for each in pack.problems if each.code == "link"]
    assert str(problem) == (
        f"{path}:1: error: link left out: a link, and none is followed: put its file there itself"
    )
    assert [each.id for each in pack.rules] == ["asyncio-timeout"]


def test_a_folder_of_packs_is_searched_through_no_link(tmp_path: Path) -> None:
    own(tmp_path / "outside", "outside")
    own(tmp_path / "packs" / "one", "one")
    link(tmp_path / "packs" / "two", tmp_path / "outside", folder=True)
    assert [each.name for each in read(tmp_path / "packs")] == ["one"]


def test_the_folder_that_is_named_may_be_a_link(tmp_path: Path) -> None:
    own(tmp_path / "real")
    link(tmp_path / "named", tmp_path / "real", folder=True)
    assert author.derive(tmp_path / "named") == ["metadata.json"]
    author.add_rule(tmp_path / "named", "asyncio-x")
    (pack,) = read(tmp_path / "named")
    assert [each.id for each in pack.rules] == ["asyncio-timeout", "asyncio-x"]
    assert (pack.problems, (tmp_path / "real/metadata.json").is_file()) == ((), True)
