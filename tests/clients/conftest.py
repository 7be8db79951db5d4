"""A person with an empty home and a clone; real clients and validators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.tools import Person
from tests.conftest import skip_where_missing
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
    with skip_where_missing():
        return tools.node_tools(tools.NPM)
    raise AssertionError


@pytest.fixture(scope="session")
def validators() -> Path:
    with skip_where_missing():
        return tools.python_tools(tools.VALIDATORS)
    raise AssertionError


@pytest.fixture(scope="session")
def build() -> Path:
    with skip_where_missing():
        return tools.python_tools(("build==1.5.0", "hatchling>=1.27"))
    raise AssertionError


@pytest.fixture(scope="session")
def dist(build: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist and of the wheel that is built from it."""
    target = tmp_path_factory.mktemp("dist")
    # Without a name of a format, the wheel is built from the sdist.
    tools.run([build / "python", "-m", "build", "--no-isolation", "-o", target, clone])
    return target


@pytest.fixture(scope="session")
def released(remote: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the branch for users, as `make release` commits it, twice; `remote` has it."""
    work = tmp_path_factory.mktemp("release") / "python-backend"
    tools.run(["git", "clone", "-q", remote, work])
    who = {
        f"GIT_{role}_{what}": "x@x"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for _ in range(2):
        script = work / "scripts" / "release.py"
        tools.run([sys.executable, script], cwd=work, env={**os.environ, **who})
    assert tools.run(["git", "-C", work, "status", "--porcelain"]).stdout == ""
    tools.run(["git", "-C", work, "push", "-q", "origin", "skill"])
    tools.run(["git", "-C", work, "checkout", "-q", "skill"])
    return work


@pytest.fixture(scope="session")
def remote(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone as the git repository that others install from."""
    work = tmp_path_factory.mktemp("work")
    shutil.copytree(clone, work / "tree")
    as_anybody = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    for each in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        tools.run(["git", "-C", work / "tree", *as_anybody, *each])
    tools.run(["git", "clone", "-q", "--bare", work / "tree", work / "remote.git"])
    return work / "remote.git"


@pytest.fixture(scope="session")
def person(node: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """One home for the session: the second start of a plugin is the common one."""
    return Person(tmp_path_factory.mktemp("home"), clone, node)


@pytest.fixture(scope="session")
def http(clone: Path) -> Iterator[Program]:
    """The server over HTTP with sessions, as clients of every era may want it."""
    import sys

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
