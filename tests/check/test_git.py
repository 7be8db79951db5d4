"""Whatever a repository says of itself, asking git about it runs no program."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from packlore.cli import main
from packlore.library import Library
from packlore.serve import review
from tests.check.test_reading import GOOD
from tests.check.test_sources import git, repository
from tests.packs import own, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the planted program is a script")
BAD = "import time\ntime.sleep(1)\n"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that leaves a mark beside it, and a pack with a detector."""
    program = write(tmp_path, {"evil": '#!/bin/sh\necho "$0" >> "$0.mark"\n'}) / "evil"
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    pack = write(own(tmp_path / "pack"), {"rules/asyncio-timeout.yml": GOOD})
    monkeypatch.setenv("PACKLORE_PACK", str(pack))
    return program


def has_run(program: Path) -> bool:
    mark = program.with_name("evil.mark")
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """All ways in which git is asked; answers with the exit codes of the commands."""
    monkeypatch.chdir(folder)
    codes = [main(["check", *each]) for each in ([], ["--diff", "HEAD"], ["--staged"])]
    review.of_files(Library.open([Path(os.environ["PACKLORE_PACK"])]), ["."], folder)
    return codes


CONFIGS: dict[str, tuple[list[str], str]] = {
    "fsmonitor": (["core.fsmonitor"], ""),
    "clean": (["filter.x.clean"], "*.py filter=x"),
    "process": (["filter.x.process"], "*.py filter=x"),
    "a filter with = in its name": (["filter.x=y.clean"], "*.py filter=x=y"),
    "textconv": (["diff.x.textconv"], "*.py diff=x"),
    "command": (["diff.x.command"], "*.py diff=x"),
    "external": (["diff.external"], ""),
    "pager": (["core.pager", "pager.ls-files", "pager.ls-tree", "pager.rev-parse"], ""),
    "alias": (["alias.ls-files", "alias.ls-tree", "alias.cat-file", "alias.rev-parse"], ""),
    "ssh": (["core.sshCommand", "core.gitProxy", "core.askPass"], ""),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_program_of_a_repository_is_run(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names, attributes = CONFIGS[kind]
    folder = repository(write(tmp_path / "repo", {"a.py": "x = 1\n", ".gitattributes": ""}))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    for name in names:
        git(folder, "config", name, str(evil))
    write(folder, {".gitattributes": attributes, "a.py": BAD})
    assert asked(folder, monkeypatch) == [1, 1, 0]
    assert not has_run(evil)
    subprocess.run(["git", "-C", str(folder), "add", "."], capture_output=True, check=False)
    has_run(evil)  # git itself may have run it
    os.utime(folder / "a.py", (4e9, 4e9))  # younger than the index
    asked(folder, monkeypatch)
    assert not has_run(evil)


def test_no_hook_of_a_repository_is_run(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(write(tmp_path / "repo", {"a.py": "x = 1\n"}))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        write(folder / ".git/hooks", {name: evil.read_text()})
        (folder / ".git/hooks" / name).chmod(0o755)
    (folder / "a.py").touch()
    asked(folder, monkeypatch)
    assert not [*(folder / ".git/hooks").glob("*.mark")]


def test_a_repository_in_plain_files_of_a_clone_is_none(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(write(tmp_path / "repo", {"lib/m.py": BAD}))
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "bare")], check=True)
    for each in (tmp_path / "bare").iterdir():
        each.rename(folder / "lib" / each.name)
    config = f"[core]\n repositoryformatversion = 0\n bare = false\n worktree = ..\n fsmonitor = {evil}\n"
    write(folder, {"lib/config": config, "lib/objects/.k": "", "lib/refs/.k": ""})
    monkeypatch.chdir(folder)
    assert main(["check", "lib"]) == 1
    monkeypatch.chdir(folder / "lib")
    assert main(["check"]) == 1
    main(["check", "--staged"])
    assert not has_run(evil)


def test_what_is_missing_is_not_fetched(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(write(tmp_path / "repo", {"a.py": "x = 1\n"}))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(folder),
        "remote.origin.uploadpack": str(evil),
        "protocol.allow": "always",
        "protocol.file.allow": "always",
    }.items():
        git(folder, "config", name, value)
    write(folder, {"a.py": BAD})
    for each in (folder / ".git/objects").glob("??/*"):
        kind = ["git", "-C", str(folder), "cat-file", "-t", each.parent.name + each.name]
        if subprocess.check_output(kind) == b"blob\n":
            each.unlink()
    assert asked(folder, monkeypatch)[1] == 2
    assert not has_run(evil)


def test_git_of_the_current_folder_is_not_run(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil.rename(tmp_path / "git")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    write(tmp_path, {"a.py": BAD})
    assert main(["check", "a.py", "."]) == 1
    assert main(["check", "--staged"]) == 2
    assert not (tmp_path / "git.mark").exists()


def test_the_server_asks_no_git_which_files_it_ignores(
    tmp_path: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(write(tmp_path / "repo", {"a.py": BAD, "b.py": BAD, ".gitignore": "b.py"}))
    monkeypatch.setenv("PATH", "")
    found = review.of_files(Library.open([Path(os.environ["PACKLORE_PACK"])]), ["."], folder)
    assert {each.path for each in found.findings} == {"a.py", "b.py"}
