"""Nothing of the development environment is installed, served or built, whatever lies about."""

from __future__ import annotations

import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from mcp import Client

from packlore.library import Library
from packlore.read import read
from packlore.server import PackServer
from tests.clients.tools import ANSWER, Person, ask, run
from tests.packs import write
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)
README = (ROOT / "README.md").read_text("utf-8")
SECRET = "planted-c0ffee"  # no word of ours
FOLDERS = (
    ".venv",
    ".venv-oldest",
    ".cache",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "rules/__pycache__",
    "assets/__pycache__",
    "server/packlore/__pycache__",
    "build",
    "dist",
)
LITTER = {folder.split("/")[-1] for folder in FOLDERS} | {".env", ".git"}
OURS_ALONE = {".ci", "benchmarks", "scripts", "tests"}
"""Folders for those who work on the repository."""


@pytest.fixture(scope="module")
def littered(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone after somebody has worked in it, with a secret in every corner."""
    tree = tmp_path_factory.mktemp("littered") / "python-backend"
    shutil.copytree(clone, tree)
    planted = {f"{folder}/deep/x.{end}": SECRET for folder in FOLDERS for end in ("md", "py")}
    planted |= {"rules/__pycache__/x.pyc": SECRET, ".env": f"TOKEN={SECRET}\n"}
    write(tree, dict(planted))
    return tree


def parts_of(names: list[str]) -> set[str]:
    return {part for name in names for part in name.split("/")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("formats", [[], ["--wheel"]], ids=["sdist and its wheel", "wheel alone"])
def test_a_build_takes_none_of_it(
    build: Path, littered: Path, tmp_path: Path, formats: list[str]
) -> None:
    run([build / "python", "-m", "build", "--no-isolation", *formats, "-o", tmp_path, littered])
    carried: dict[str, bytes] = {}
    for wheel in tmp_path.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            carried |= {name: archive.read(name) for name in archive.namelist()}
    for sdist in tmp_path.glob("*.tar.gz"):
        with tarfile.open(sdist) as archive:
            for member in archive.getmembers():
                carried[member.name] = getattr(archive.extractfile(member), "read", bytes)()
    assert any(name.endswith("rules/pooling-database.md") for name in carried)
    assert not parts_of(list(carried)) & (LITTER | OURS_ALONE)
    assert not [name for name, data in carried.items() if SECRET.encode() in data]


async def test_the_server_serves_none_of_it(clone: Path, littered: Path) -> None:
    (clean,), (pack,) = read(clone), read(littered)
    assert {file.path: file.data for file in pack.files} == {
        file.path: file.data for file in clean.files
    }
    async with Client(PackServer(Library.open([littered]))) as client:
        uris = [str(each.uri) for each in (await client.list_resources()).resources]
        assert uris
        assert not parts_of(uris) & (LITTER | OURS_ALONE)
        for uri in uris:
            for content in (await client.read_resource(uri)).contents:
                assert SECRET not in content.model_dump_json()


@pytest.fixture
def from_git(person: Person, remote: Path, tmp_path: Path) -> Person:
    """Somebody for whom OWNER/REPO on https://git.example is `remote`."""
    home = tmp_path / "home"
    home.mkdir()
    base = f'[url "file://{remote.parent}/"]\n\tinsteadOf = https://git.example/\n'
    (home / ".gitconfig").write_text(base)
    return Person(home, person.clone, person.bin)


async def test_claude_code_installs_what_the_readme_names_and_it_is_enough(
    from_git: Person, person: Person, tmp_path: Path
) -> None:
    lines = re.findall(r"^    claude (plugin .*)$", README, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        url = line.replace("OWNER/REPO", "https://git.example/remote.git")
        from_git.run("claude", *shlex.split(url))
    cache = from_git.home / ".claude" / "plugins" / "cache" / "packlore" / "python-backend"
    (installed,) = cache.iterdir()
    files = files_of(installed)
    assert not parts_of(list(files)) & (LITTER | OURS_ALONE)

    out = from_git.run("claude", "plugin", "details", "python-backend").stdout
    assert "Skills (1)  python-backend" in out
    assert "MCP servers (1)  packlore" in out
    # What was installed for one start serves the next, wherever the folder lies.
    env = {**from_git.env, "XDG_CACHE_HOME": str(person.home / ".cache")}
    answer = await ask(["python3", installed / "server" / "launch.py"], env=env, cwd=tmp_path)
    assert answer.startswith(ANSWER)
    assert files_of(installed) == files, "a start writes nothing beside the plugin"


def test_skills_add_copies_what_git_holds_and_no_more(
    from_git: Person, clone: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    url = "https://git.example/remote.git"
    from_git.run("skills", "add", url, "-y", "-a", "cursor", "--copy", cwd=project)
    (skill,) = project.glob(".*/skills/python-backend")
    files = files_of(skill)
    assert not parts_of(list(files)) & LITTER
    assert set(files) == set(files_of(clone)) - {"metadata.json"}


def test_the_branch_for_users_holds_what_they_need_and_no_more(released: Path, clone: Path) -> None:
    private = {*OURS_ALONE, ".gitignore"}
    assert {name: data for name, data in files_of(released).items() if ".git/" not in name} == {
        name: data for name, data in files_of(clone).items() if name.split("/")[0] not in private
    }
    assert run(["git", "-C", released, "rev-list", "--count", "HEAD"]).stdout.strip() == "2"


async def test_skills_add_of_that_branch_takes_no_tests_and_the_server_answers(
    from_git: Person, person: Person, released: Path, tmp_path: Path
) -> None:
    (line,) = re.findall(r"`(OWNER/REPO#\S+)`", README)
    url = line.replace("OWNER/REPO", "https://git.example/remote.git")
    from_git.run("skills", "add", url, "-y", "-a", "cursor", "--copy", cwd=tmp_path)
    skill = next(tmp_path.glob(".*/skills/python-backend"))  # noqa: ASYNC240 nothing else runs
    assert {"tests", "benchmarks"}.isdisjoint(parts_of(list(files_of(skill))))
    kept = {name for name in files_of(released) if ".git/" not in name}
    assert set(files_of(skill)) == kept - {"metadata.json"}
    env = {**from_git.env, "XDG_CACHE_HOME": str(person.home / ".cache")}
    answer = await ask(["python3", skill / "server" / "launch.py"], env=env, cwd=tmp_path)
    assert answer.startswith(ANSWER)
