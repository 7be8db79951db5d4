"""pre-commit, as it is, installs this repository and checks what is to be committed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.clients import tools
from tests.clients.tools import Person
from tests.packs import write
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)
README = (ROOT / "README.md").read_text("utf-8")
HOOKS = ".pre-commit-hooks.yaml"
FAULT = "import asyncio\n\n\nasync def main(work):\n    asyncio.create_task(work())\n"
CLEAN = "import asyncio\n\n\nasync def main(work):\n    await work()\n"


@pytest.fixture(scope="module")
def pre_commit() -> Path:
    return tools.python_tools(tools.PRE_COMMIT)


def snippet() -> str:
    """What the README says that stands in `.pre-commit-config.yaml`."""
    (found,) = re.findall(r"(?m)^    repos:\n(?:    .*\n)+", README)
    return str(found).replace("\n    ", "\n").removeprefix("    ")


@pytest.fixture(scope="module")
def project(
    pre_commit: Path, clone: Path, remote: Path, tmp_path_factory: pytest.TempPathFactory
) -> Person:
    """Somebody with a project, `clone`, that uses the hook as the README says, at the newest commit."""
    home, folder = (tmp_path_factory.mktemp(name) for name in ("home", "project"))
    tools.on_github(remote, home)
    person = Person(home, folder, pre_commit)
    revision = tools.run(["git", "-C", remote, "rev-parse", "main"]).stdout.strip()
    config, count = re.subn(r"rev: \S+", f"rev: {revision}", snippet())
    assert count == 1
    write(folder, {".pre-commit-config.yaml": config})
    person.run("git", "init", "-q", cwd=folder)
    return person


def committed(project: Person, files: Mapping[str, str | bytes]) -> tuple[int, str]:
    """The exit code and the words of pre-commit, with these files staged and nothing else."""
    project.run("git", "rm", "-rfq", "--cached", "--ignore-unmatch", ".", cwd=project.clone)
    write(project.clone, files)
    project.run("git", "add", *files, cwd=project.clone)
    done = project.run("pre-commit", "run", check=False, cwd=project.clone)
    return done.returncode, done.stdout + done.stderr


def test_its_manifest_is_valid(pre_commit: Path) -> None:
    tools.run([pre_commit / "pre-commit", "validate-manifest", ROOT / HOOKS])


def test_a_fault_stops_the_commit_and_is_told(project: Person) -> None:
    code, said = committed(project, {"app/bad.py": FAULT, "app/good.py": CLEAN})
    assert code == 1
    assert "app/bad.py:5:" in said
    assert "error: asyncio-task-references: " in said
    assert "1 errors in 2 files" in said


@pytest.mark.parametrize("files", [{"app/good.py": CLEAN}, {"notes.txt": FAULT}])
def test_what_is_clean_or_another_language_is_committed(
    project: Person, files: dict[str, str]
) -> None:
    code, said = committed(project, files)
    assert code == 0, said
    assert ("Passed" if "app/good.py" in files else "no files to check") in said


def test_it_installs_what_the_extra_does() -> None:
    (hook,) = yaml.safe_load((ROOT / HOOKS).read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert hook["additional_dependencies"] == project["optional-dependencies"]["check"]
    (used,) = [each for repo in yaml.safe_load(snippet())["repos"] for each in repo["hooks"]]
    assert used == {"id": hook["id"]}
