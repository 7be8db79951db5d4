"""Nothing of the development environment is installed, served or built, whatever lies about."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from mcp import Client

from packlore.library import Library
from packlore.pack.read import read
from packlore.serve.server import PackServer
from tests.clients.tools import ANSWER, Person, ask, files_of, only, run
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
OURS_ALONE = {
    *(".ci", ".github", "AGENTS.md", "Makefile", "benchmarks", "scripts", "tests"),
    *("constraints.txt", "constraints-oldest.txt"),
}
"""For those who work on the repository."""


@pytest.fixture(scope="module")
def littered(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone after somebody has worked in it, with a secret in every corner."""
    tree = tmp_path_factory.mktemp("littered") / "python-backend"
    shutil.copytree(clone, tree)
    planted = {f"{folder}/deep/x.{end}": SECRET for folder in FOLDERS for end in ("md", "py")}
    planted |= {"rules/__pycache__/x.pyc": SECRET}
    planted |= {f"{folder}.env": SECRET for folder in ("", "rules/", "assets/", "server/packlore/")}
    write(tree, dict(planted))
    return tree


def parts_of(names: list[str]) -> set[str]:
    return {part for name in names for part in name.split("/")}


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


async def starts_as_it_is(folder: Path, newcomer: Person, person: Person, cwd: Path) -> None:
    """Its server answers from another folder, and writes nothing into this one."""
    before = files_of(folder)
    # What was installed for one start serves the next, wherever the folder lies.
    env = {**newcomer.env, "XDG_CACHE_HOME": str(person.home / ".cache")}
    answer = await ask(["python3", folder / "server" / "launch.py"], env=env, cwd=cwd)
    assert answer.startswith(ANSWER)
    assert files_of(folder) == before


def test_the_branch_for_users_holds_what_they_need_and_no_more(
    released: Path, clone: Path, remote: Path
) -> None:
    files = files_of(released)
    assert not parts_of(list(files)) & (LITTER | OURS_ALONE)
    assert files == {name: data for name, data in files_of(clone).items() if name in files}
    (pack,) = read(clone)
    assert {file.path for file in pack.files} < set(files)
    assert run(["git", "-C", remote, "rev-list", "--count", "skill"]).stdout.strip() == "2"


async def test_claude_code_installs_what_the_readme_names_and_it_is_enough(
    newcomer: Person, person: Person, released: Path, tmp_path: Path
) -> None:
    lines = list(dict.fromkeys(re.findall(r"^    claude (plugin .*)$", README, re.MULTILINE)))
    assert len(lines) == 3, "the second plugin is opt in"
    for line in lines:
        newcomer.run("claude", *shlex.split(line))
    out = newcomer.run("claude", "plugin", "details", "python-backend").stdout
    assert "Skills (1)  python-backend" in out
    assert "MCP servers (1)  packlore" in out
    cache = newcomer.home / ".claude" / "plugins" / "cache" / "packlore" / "python-backend"
    plugin = only(cache, "*")
    await starts_as_it_is(plugin, newcomer, person, tmp_path)
    assert files_of(plugin) == files_of(released)


async def test_skills_add_installs_what_the_readme_names_and_it_is_enough(
    newcomer: Person, person: Person, released: Path, tmp_path: Path
) -> None:
    (line,) = re.findall(r"`npx (skills add OWNER/REPO#\w+)`", README)
    newcomer.run(*shlex.split(line), "-y", "-a", "cursor", "--copy", cwd=tmp_path)
    skill = only(tmp_path, ".*/skills/python-backend")
    await starts_as_it_is(skill, newcomer, person, tmp_path)
    assert set(files_of(skill)) == set(files_of(released)) - {"metadata.json"}


def test_of_all_that_git_holds_skills_add_takes_no_more(
    newcomer: Person, clone: Path, tmp_path: Path
) -> None:
    newcomer.run("skills", "add", "OWNER/REPO", "-y", "-a", "cursor", "--copy", cwd=tmp_path)
    skill = only(tmp_path, ".*/skills/python-backend")
    assert set(files_of(skill)) == set(files_of(clone)) - {"metadata.json"}


def test_make_leaves_nothing_in_the_tree(clone: Path, tmp_path: Path) -> None:
    """A clone in which somebody has worked is copied as it lies there."""
    place = os.environ.get("PACKLORE_DEV")
    if not place:
        pytest.skip("not run by make, whose environments this would use")
    tree = tmp_path / "python-backend"
    shutil.copytree(clone, tree)
    old = [f"-o{place}/newest/{stamp}" for stamp in (".python", ".run", ".test")]
    proof = "PROOFS=tests/proofs/test_asyncio_except_star.py"
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    out = run(["make", *old, "run", "build", "format", "proofs", proof], cwd=tree, env=env).stdout
    assert "sqlalchemy-expire-on-commit" in out
    assert " passed" in out
    assert files_of(tree) == files_of(clone)
