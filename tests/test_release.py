"""`make release` makes the branch that users install from, or says in one line why it cannot."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT

SCRIPT = ROOT / "scripts" / "release.py"
USED: tuple[str, ...] = runpy.run_path(str(SCRIPT))["USED"]
NAMED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Jo"), ("EMAIL", "jo@example.com"))
}


def nobody(home: Path) -> dict[str, str]:
    """Git without an identity, also where it could make one up from the names of user and host."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "user.useConfigOnly",
        "GIT_CONFIG_VALUE_0": "true",
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in (*USED, "tests"):
        path = folder / name if Path(name).suffix or name == "LICENSE" else folder / name / "x"
        if name.startswith("."):
            path = folder / name / "x"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    manifest = {key: key for key in ("name", "version", "description", "author", "license")}
    (folder / ".cursor-plugin" / "plugin.json").write_text(json.dumps({**manifest, "keywords": []}))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, env=nobody(tmp_path) | NAMED, check=True)
    return folder


def release(folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("missing", ["AUTHOR", "COMMITTER"])
def test_without_an_identity_one_line_says_what_to_set(repository: Path, missing: str) -> None:
    named = {name: value for name, value in NAMED.items() if missing not in name}
    done = release(repository, nobody(repository.parent) | named)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("git does not know who you are: set git config user.name and")
    branches = subprocess.check_output(["git", "branch", "--list", "skill"], cwd=repository)
    assert branches == b""


def test_with_an_identity_the_branch_holds_what_users_need(repository: Path) -> None:
    done = release(repository, nobody(repository.parent) | NAMED)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line.split()[:3] for line in done.stdout.splitlines()]
    assert said == [["branch", name, "is"] for name in ("skill", "plugin")]
    assert re.match(
        r"branch skill is [0-9a-f]{10}, from [0-9a-f]+: git push origin skill\n", done.stdout
    )
    names = subprocess.check_output(
        ["git", "ls-tree", "--name-only", "skill"], cwd=repository, text=True
    )
    assert set(names.split()) == set(USED)
    trees = subprocess.check_output(
        ["git", "rev-parse", "skill^{tree}", "plugin:skills/python-backend"], cwd=repository
    )
    assert len(set(trees.split())) == 1
    again = release(repository, nobody(repository.parent) | NAMED)
    assert again.stdout == "branch skill holds this already\nbranch plugin holds this already\n"


def test_outside_a_repository_one_line_says_so(tmp_path: Path) -> None:
    done = release(tmp_path, nobody(tmp_path) | NAMED)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "not a git repository" in done.stderr
