"""Codex: the plugin that checks edits runs after a patch of the real program. What a model would
say comes from a stand-in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.models import Service, that_patches
from tests.clients.tools import ANSWER, Person, ask
from tests.packs import write
from tests.proofs.harness import ROOT

README = (ROOT / "README.md").read_text("utf-8")
pytestmark = [pytest.mark.more, pytest.mark.timeout(1800)]
CODE = "import asyncio\n\n\nasync def main(work):\n    asyncio.create_task(work())\n"
TOLD = "a.py:5, asyncio-task-references: "
PROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = ["fastapi"]\n'
MODEL = "gpt-5.5"
"""One to which this release of Codex gives `apply_patch` as a tool (`codex debug models`)."""


@pytest.fixture
def person(clone: Path, remote: Path, tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    tools.on_github(remote, home)
    return Person(home, clone, tools.node_tools(tools.MORE_NPM))


def patched(person: Person, project: Path, *more: str) -> Service:
    """What the service was asked by a session whose model adds `CODE`."""
    (project / "a.py").unlink(missing_ok=True)
    added = "".join(f"+{line}\n" for line in CODE.splitlines())
    with that_patches(f"*** Begin Patch\n*** Add File: a.py\n{added}*** End Patch\n") as asked:
        provider = f'{{name="x", base_url="{asked.url}/v1", env_key="NONE", wire_api="responses"}}'
        command = [str(person.bin / "codex"), "exec", "-m", MODEL, "-c", "model_provider=x"]
        command += ["-c", f"model_providers.x={provider}", "--json", *more]
        command += ["--dangerously-bypass-approvals-and-sandbox", "hi"]
        done = tools.run(command, env={**person.env, "NONE": "x"}, cwd=project, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "a.py").read_text() == CODE
    return asked


async def test_the_agent_is_told_what_its_patch_breaks(person: Person, tmp_path: Path) -> None:
    """Once its user trusts the hook, and the server has been started."""
    project = write(tmp_path / "project", {"pyproject.toml": PROJECT})
    person.run("git", "init", "-q", cwd=project)
    for line in re.findall(r"^    codex (.*)$", README, re.MULTILINE):
        person.run("codex", *line.split(), cwd=tmp_path)
    (config,) = json.loads(person.run("codex", "mcp", "list", "--json", cwd=tmp_path).stdout)
    transport = config["transport"]
    command = [transport["command"], *transport["args"]]
    answer = await ask(command, env=person.env, cwd=Path(transport["cwd"]))
    assert answer.startswith(ANSWER)

    assert not patched(person, project).was_told(TOLD)
    trusted = patched(person, project, "--dangerously-bypass-hook-trust")
    assert trusted.was_told(TOLD)
