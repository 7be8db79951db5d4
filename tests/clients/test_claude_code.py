"""Claude Code: the repository is valid, installs by its own command, and its server connects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.clients.tools import Person

NAME = "plugin:python-backend:packlore"


@pytest.fixture(scope="module")
def installed(person: Person) -> Person:
    person.run("claude", "plugin", "marketplace", "add", person.clone)
    person.run("claude", "plugin", "install", "python-backend@packlore")
    return person


@pytest.mark.parametrize("folder", ["clone", "released"])
def test_the_plugin_is_valid_to_the_letter(
    person: Person, request: pytest.FixtureRequest, folder: str
) -> None:
    command = ("claude", "plugin", "validate", "--strict", "--profile", "directory")
    done = person.run(*command, request.getfixturevalue(folder))
    assert "Validation passed" in done.stdout


def test_the_skill_is_valid_where_claude_code_reads_skills(person: Person, tmp_path: Path) -> None:
    stage = tmp_path / ".claude" / "skills" / "python-backend"
    stage.mkdir(parents=True)
    shutil.copy(person.clone / "SKILL.md", stage)
    done = person.run("claude", "plugin", "validate", "--strict", tmp_path)
    assert "Validation passed" in done.stdout


def test_the_details_name_the_skill_and_the_server(installed: Person) -> None:
    out = installed.run("claude", "plugin", "details", "python-backend").stdout
    assert "Skills (1)  python-backend" in out
    assert "MCP servers (1)  packlore" in out


def test_the_server_connects(installed: Person) -> None:
    """The first start installs what the server needs with nothing but Python and pip."""
    out = installed.run("claude", "mcp", "list").stdout
    (line,) = [each for each in out.splitlines() if each.startswith(NAME)]
    assert "Connected" in line


def test_the_real_loader_has_the_skill_and_the_server(installed: Person) -> None:
    installed.run("claude", "mcp", "list")  # the server has been started once
    done = installed.run(
        "claude", "-p", "hi", "--output-format", "stream-json", "--verbose", check=False
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (init, *_) = [event for event in events if event.get("subtype") == "init"]
    assert "python-backend:python-backend" in init["skills"]
    assert [server["name"] for server in init["mcp_servers"]] == [NAME]


@pytest.mark.parametrize("folder", ["clone", "released"])
def test_a_copy_in_the_skills_folder_is_a_skill_with_its_server(
    person: Person, tmp_path: Path, request: pytest.FixtureRequest, folder: str
) -> None:
    other = Person(tmp_path, person.clone, person.bin)
    shutil.copytree(
        request.getfixturevalue(folder), tmp_path / ".claude" / "skills" / "python-backend"
    )
    # What was installed for one start serves the next, wherever the folder lies.
    for data in person.home.glob(".claude/plugins/data/*"):
        shutil.copytree(data, tmp_path / ".cache" / "packlore", dirs_exist_ok=True)
    out = other.run("claude", "mcp", "list").stdout
    assert "Connected" in out
