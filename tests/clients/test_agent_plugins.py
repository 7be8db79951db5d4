"""The branch `plugin`, in the layout of Agent Plugins 1.0: agent-plugins.org/specification."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.clients.tools import ANSWER, Person, ask, files_of, run

SKILL = "skills/python-backend"


@pytest.fixture
def plugin(remote: Path, tmp_path: Path) -> Path:
    """What the branch holds."""
    target = tmp_path / "python-backend"
    run(["git", "clone", "-q", "-b", "plugin", remote, target])
    shutil.rmtree(target / ".git")
    return target


def test_it_is_a_manifest_a_server_and_the_skill_that_others_install(
    plugin: Path, released: Path
) -> None:
    assert {path.name for path in plugin.iterdir()} == {
        *("LICENSE", "mcp.json", "plugin.json", "skills")
    }
    assert files_of(plugin / SKILL) == files_of(released)
    manifest = json.loads((plugin / "plugin.json").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert f'version: "{manifest["version"]}"' in (plugin / SKILL / "SKILL.md").read_text()


def test_validators_take_it_for_an_agent_plugin_and_find_nothing(
    validators: Path, plugin: Path
) -> None:
    out = run([validators / "skillsaw", "lint", "-v", plugin], check=False).stdout
    assert re.search(r"Repo type: .*\bagent-plugin\b", out), out
    assert re.search(r"Skills: +1\n", out), out
    assert "Errors:   0" in out, out
    assert "Warnings: 0" in out, out
    assert "Valid skill" in run([validators / "agentskills", "validate", plugin / SKILL]).stdout

    servers = json.loads((plugin / "mcp.json").read_text())
    servers["mcpServers"]["packlore"]["type"] = "pipe"
    (plugin / "mcp.json").write_text(json.dumps(servers))
    out = run([validators / "skillsaw", "lint", plugin], check=False).stdout
    assert "agent-plugin-mcp-valid" in out, "the validator would not see a wrong one"


async def test_its_server_starts_from_another_folder(
    person: Person, plugin: Path, tmp_path: Path
) -> None:
    (config,) = json.loads((plugin / "mcp.json").read_text())["mcpServers"].values()
    command = [config["command"], *config["args"]]
    command = [each.replace("${PLUGIN_ROOT}", str(plugin)) for each in command]
    assert config["env"] == {"PACKLORE_DATA": "${PLUGIN_DATA}"}
    env = {**person.env, "PACKLORE_DATA": str(person.home / ".cache" / "packlore")}
    assert (await ask(command, env=env, cwd=tmp_path)).startswith(ANSWER)
