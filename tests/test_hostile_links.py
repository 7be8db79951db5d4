"""Links that somebody put into a pack: none is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from packlore.pack.read import read
from tests.packs import own, rule, write


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
