"""Claude Code: the plugin that checks edits installs with the other one, and its hook runs after
an edit of the real program. What a model would say comes from a stand-in."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.models import Service, that_calls
from tests.clients.tools import Person
from tests.packs import write

pytestmark = pytest.mark.timeout(600)
CODE = "import asyncio\n\n\nasync def main(work):\n    asyncio.create_task(work())\n"
TOLD = "a.py:5, asyncio-task-references: "
PROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = ["fastapi"]\n'


@pytest.fixture(scope="module")
def other(node: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who has added the marketplace from a folder, and installed the second plugin."""
    person = Person(tmp_path_factory.mktemp("other"), clone, node)
    person.run("claude", "plugin", "marketplace", "add", clone)
    out = person.run("claude", "plugin", "install", "python-backend-check@packlore").stdout
    assert "+ 1 dependency: python-backend" in out
    return person


@pytest.mark.parametrize("folder", ["clone", "released"])
def test_the_plugin_is_valid_to_the_letter(
    person: Person, request: pytest.FixtureRequest, folder: str
) -> None:
    command = ("claude", "plugin", "validate", "--strict", "--profile", "directory")
    done = person.run(*command, request.getfixturevalue(folder) / "check-plugin")
    assert "Validation passed" in done.stdout
    assert "hooks: PostToolUse Edit|Write|MultiEdit command" in done.stdout


def test_both_plugins_are_there_without_an_error(other: Person) -> None:
    out = other.run("claude", "plugin", "list").stdout
    assert re.findall(r"(\S+)@packlore", out) == ["python-backend-check", "python-backend"]
    assert out.count("✔ enabled") == 2
    assert "error" not in out.lower()


def test_the_other_plugin_alone_has_no_hook(person: Person, tmp_path: Path) -> None:
    alone = Person(tmp_path, person.clone, person.bin)
    alone.run("claude", "plugin", "marketplace", "add", person.clone)
    alone.run("claude", "plugin", "install", "python-backend@packlore")
    assert "python-backend-check" not in alone.run("claude", "plugin", "list").stdout
    assert "Registered 0 hooks" in debugged(alone, tmp_path)


def debugged(person: Person, folder: Path) -> str:
    """What a start that ends at the login writes into its log."""
    log = folder / "debug.log"
    person.run("claude", "-p", "hi", "--debug-file", log, check=False)
    return log.read_text("utf-8")


def edited(person: Person, project: Path) -> Service:
    """What the service was asked by a session in `project` whose model writes `CODE` there."""
    write(project, {"pyproject.toml": PROJECT})
    path = project / "a.py"
    path.unlink(missing_ok=True)
    (project / "debug.log").unlink(missing_ok=True)
    arguments = {"file_path": str(path), "content": CODE}
    with that_calls("Write", arguments) as asked:
        env = {**person.env, "ANTHROPIC_BASE_URL": asked.url, "ANTHROPIC_API_KEY": "none"}
        log = project / "debug.log"
        command: list[str | Path] = [person.bin / "claude", "-p", "hi", "--allowedTools", "Write"]
        tools.run([*command, "--debug-file", log], env=env, cwd=project)
    assert path.read_text() == CODE
    (hooks,) = re.findall(r"Registered (\d+) hooks", log.read_text("utf-8"))
    assert hooks == "1"
    (line,) = re.findall(r"PostToolUse:Write \[.*hook\.py.*", log.read_text("utf-8"))
    assert "finished with status 0" in line
    return asked


def test_the_agent_is_told_what_its_edit_breaks(other: Person, tmp_path: Path) -> None:
    """Before the server has installed anything, nothing is said."""
    data = other.home / ".claude" / "plugins" / "data" / "python-backend-packlore"
    assert not [*data.glob("packages-*")]
    other.run("claude", "mcp", "list")  # the server has been started once
    assert [*data.glob("packages-*/ast_grep_py")]
    asked = edited(other, tmp_path)
    assert asked.was_told(TOLD)
    assert asked.was_told("read_rules: asyncio-task-references")


def test_installed_from_a_repository_it_finds_the_server_in_the_cache(
    newcomer: Person, other: Person, tmp_path: Path
) -> None:
    newcomer.run("claude", "plugin", "marketplace", "add", "OWNER/REPO#skill")
    newcomer.run("claude", "plugin", "install", "python-backend-check@packlore")
    plugins = newcomer.home / ".claude" / "plugins"
    (hook,) = plugins.glob("cache/packlore/python-backend-check/*/hook.py")
    assert not [*plugins.glob("data/python-backend-packlore/packages-*")]
    project = tmp_path / "project"
    project.mkdir()
    assert not edited(newcomer, project).was_told(TOLD)

    newcomer.run("claude", "mcp", "list")
    assert edited(newcomer, project).was_told(TOLD)
    given = {"cwd": str(project), "tool_input": {"file_path": str(project / "a.py")}}
    data = plugins / "data" / "python-backend-check-packlore"
    done = tools.run(
        ["sh", "-c", f"echo '{json.dumps(given)}' | python3 '{hook}'"],
        env={**newcomer.env, "CLAUDE_PLUGIN_DATA": os.fspath(data)},
        cwd=project,
    )
    assert TOLD in json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]
