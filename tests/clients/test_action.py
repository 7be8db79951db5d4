"""The GitHub action: its steps are run as they stand, in the shell and with the variables that
GitHub gives them, and its files fit GitHub's schemas."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients import tools
from tests.clients.tools import Person
from tests.packs import write
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)
README = (ROOT / "README.md").read_text("utf-8")
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
# https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
FAULT = "import asyncio\n\n\nasync def main(work):\n    asyncio.create_task(work())\n"


def snippet() -> str:
    """The README's example of a workflow."""
    (found,) = re.findall(r"(?m)^    on: .*\n(?:    .*\n)+", README)
    return str(found).replace("\n    ", "\n").removeprefix("    ")


@pytest.fixture(scope="module")
def schemas() -> Path:
    return tools.python_tools(tools.SCHEMAS)


@pytest.fixture(scope="module")
def runner(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A machine of GitHub's, after the first step: `clone` is the repository that is checked."""
    folder = tmp_path_factory.mktemp("runner")
    for name in ("home", "work", "temp"):
        (folder / name).mkdir()
    shutil.copytree(clone, folder / "action")
    person = Person(folder / "home", folder / "work", folder / "none")
    done = step(person, 0, {})
    assert done.returncode == 0, done.stderr
    return person


def step(runner: Person, number: int, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A step of the action, with its inputs as a workflow gives them."""
    what = ACTION["runs"]["steps"][number]
    assert what["shell"] == "bash"
    inputs = {name: str(each["default"]) for name, each in ACTION["inputs"].items()}
    assert set(given) <= set(inputs)

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda name: {**inputs, **given}[name[1]], text)

    assert "${{" not in what["run"]  # an input would be code there
    base = runner.home.parent
    env = {name: filled(text) for name, text in what.get("env", {}).items()}
    assert "${{ " not in "".join(env.values())
    env |= {"RUNNER_TEMP": str(base / "temp"), "GITHUB_ACTION_PATH": str(base / "action")}
    script = base / "step.sh"
    script.write_text(what["run"])
    return tools.run([*SHELL, script], env={**runner.env, **env}, cwd=runner.clone, check=False)


def check(runner: Person, files: Mapping[str, str | bytes], **given: str) -> tuple[int, list[str]]:
    """The exit code, and the annotations."""
    shutil.rmtree(runner.clone)
    write(runner.clone, files)
    done = step(runner, 1, given)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_fault_is_an_annotation_and_fails_the_job(runner: Person) -> None:
    code, (line,) = check(runner, {"src/bad.py": FAULT, "other/bad.py": FAULT}, paths="src")
    assert code == 1
    assert line.startswith("::error file=src/bad.py,line=5,")
    assert "asyncio-task-references" in line


def test_by_default_all_is_checked_and_what_is_clean_passes(runner: Person) -> None:
    code, lines = check(runner, {"src/bad.py": FAULT, "other/bad.py": FAULT})
    assert (code, len(lines)) == (1, 2)
    assert check(runner, {"src/good.py": "x = 1\n"}) == (0, [])


def test_paths_and_arguments_are_one_a_line_and_no_code(runner: Person) -> None:
    files = {"a b/bad.py": FAULT, "$(touch ran)/bad.py": FAULT, "c.py": FAULT}
    paths = "a b\n\n$(touch ran)\n"
    code, lines = check(runner, files, paths=paths)
    assert (code, len(lines)) == (1, 2)
    assert not (runner.clone / "ran").exists()
    arguments = "--ignore=asyncio-task-references\n--min-level=hint"
    assert check(runner, files, paths=paths, arguments=arguments) == (0, [])
    assert check(runner, files, paths="--help") == (2, [])  # no file of that name is there


@pytest.mark.parametrize("name", ["packlore.py", "yaml.py", "ast_grep_py.py", "json.py"])
def test_the_repository_that_is_checked_lends_no_module(runner: Person, name: str) -> None:
    code, lines = check(runner, {name: "open('ran', 'w').close()\n", "bad.py": FAULT})
    assert (code, len(lines)) == (1, 1)
    assert not (runner.clone / "ran").exists()


def test_github_knows_the_form_of_the_action_and_of_the_workflow(
    schemas: Path, tmp_path: Path
) -> None:
    workflow = tmp_path / "check.yml"
    workflow.write_text(snippet())
    for schema, path in (("github-actions", ROOT / "action.yml"), ("github-workflows", workflow)):
        tools.run([schemas / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", path])
    broken = tmp_path / "action.yml"
    broken.write_text((ROOT / "action.yml").read_text("utf-8").replace("composite", "composed"))
    command: list[str | Path] = [schemas / "check-jsonschema", "--builtin-schema"]
    command += ["vendor.github-actions", broken]
    assert tools.run(command, check=False).returncode == 1


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    (job,) = yaml.safe_load(snippet())["jobs"].values()
    *_, last = job["steps"]
    assert last["uses"].startswith("OWNER/REPO@v")
    assert set(last["with"]) <= set(ACTION["inputs"])
