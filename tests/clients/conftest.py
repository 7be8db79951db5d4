"""A person with an empty home and a clone; real clients and validators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clients import tools
from tests.clients.tools import Person
from tests.proofs.harness import ROOT
from tests.services import Program, serving_process


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of this state would hold, in a folder with the skill's name: the files that git
    tracks or would take up, as they are now."""
    target = tmp_path_factory.mktemp("clone") / "python-backend"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.fixture(scope="session")
def node() -> Path:
    return tools.node_tools(tools.NPM)


@pytest.fixture(scope="session")
def validators() -> Path:
    return tools.python_tools(tools.VALIDATORS)


@pytest.fixture(scope="session")
def build() -> Path:
    return tools.python_tools(("build==1.5.0", "hatchling>=1.27"))


@pytest.fixture(scope="session")
def dist(build: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist and of the wheel that is built from it."""
    target = tmp_path_factory.mktemp("dist")
    # Without a name of a format, the wheel is built from the sdist.
    tools.run([build / "python", "-m", "build", "--no-isolation", "-o", target, clone])
    return target


@pytest.fixture(scope="session")
def remote(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The git repository OWNER/REPO from which others install: its branch `main` is the clone, and
    twice the workflow has made the branch `skill`, the first time of an older state."""
    base = tmp_path_factory.mktemp("git")
    bare, work = base / "OWNER" / "REPO.git", base / "work"
    tools.run(["git", "init", "-q", "--bare", "-b", "main", bare])
    tools.run(["git", "clone", "-q", bare, work])
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "skill.yml").read_text("utf-8"))
    job = flow["jobs"]["release"]
    for old in (True, False):
        shutil.copytree(clone, work, dirs_exist_ok=True)
        if old:
            (work / "SKILL.md").write_text("before")
        as_anybody = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        for each in (["add", "-A"], ["commit", "-q", "-m", "all"], ["push", "-q"]):
            tools.run(["git", "-C", work, *as_anybody, *each])
        checkout = base / f"checkout-{old}"
        tools.run(["git", "clone", "-q", "--depth", "1", f"file://{bare}", checkout])
        for step in job["steps"][1:]:  # the first is that clone
            env = {**os.environ, **job["env"]}
            tools.run(["bash", "-e", "-c", step["run"]], cwd=checkout, env=env)
    return bare


@pytest.fixture(scope="session")
def released(remote: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the branch for users holds."""
    target = tmp_path_factory.mktemp("released") / "python-backend"
    tools.run(["git", "clone", "-q", "-b", "skill", remote, target])
    shutil.rmtree(target / ".git")
    return target


@pytest.fixture
def newcomer(node: Path, clone: Path, remote: Path, tmp_path: Path) -> Person:
    """Somebody with an empty home, for whom GitHub's OWNER/REPO is `remote`."""
    home = tmp_path / "home"
    home.mkdir()
    tools.on_github(remote, home)
    return Person(home, clone, node)


@pytest.fixture(scope="session")
def person(node: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """One home for the session: the second start of a plugin is the common one."""
    return Person(tmp_path_factory.mktemp("home"), clone, node)


@pytest.fixture(scope="session")
def http(clone: Path) -> Iterator[Program]:
    """The server over HTTP with sessions, as clients of every era may want it."""

    command = [
        sys.executable,
        "-m",
        "packlore",
        "serve",
        "--http",
        "--sessions",
        "--port",
        "{port}",
    ]
    with serving_process([*command, "--pack", str(clone)], path="/health") as program:
        yield program
