"""Cursor has no program on the registries: a validator of other people reads the manifest as its
documentation says, and what it would start is started, with its variables filled in.

https://cursor.com/docs/reference/plugins, https://cursor.com/docs/mcp
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.clients.tools import ANSWER, Person, ask, run
from tests.packs import write
from tests.proofs.harness import ROOT

pytestmark = pytest.mark.timeout(600)
README = (ROOT / "README.md").read_text("utf-8")
MANIFEST = ".cursor-plugin/plugin.json"


def filled(config: dict[str, Any], **variables: Path) -> list[str]:
    """The command of a server, with Cursor's variables in it replaced."""
    command = [config["command"], *config["args"]]
    for name, value in variables.items():
        command = [each.replace(f"${{{name}}}", str(value)) for each in command]
    assert "${" not in " ".join(command)
    assert set(config) == {"command", "args"}
    return command


def snippet() -> dict[str, Any]:
    """The README's line for `.cursor/mcp.json`."""
    (line,) = re.findall(r'^    (\{"mcpServers".*)$', README, re.MULTILINE)
    read: dict[str, Any] = json.loads(line)
    return read


@pytest.fixture
def plugin(clone: Path, tmp_path: Path) -> Path:
    """The repository as Cursor alone sees it."""
    target = tmp_path / "python-backend"
    shutil.copytree(clone, target)
    for other in (".claude-plugin", ".codex-plugin"):
        shutil.rmtree(target / other)
    return target


def test_the_plugin_is_the_one_skill_and_none_of_our_rules(validators: Path, plugin: Path) -> None:
    """Cursor takes every `rules/*.md` of a plugin for one of its own, unless the manifest names
    others: 46 files in every session."""
    out = run([validators / "skillsaw", "lint", "-v", plugin], check=False).stdout
    assert re.search(r"Repo type: .*\bcursor-plugin\b", out), out
    assert re.search(r"Skills: +1\n", out), out
    assert "Errors:   0" in out, out
    assert "Warnings: 0" in out, out
    assert "cursor-rules-valid" not in out, out

    manifest = json.loads((plugin / MANIFEST).read_text())
    del manifest["rules"]
    (plugin / MANIFEST).write_text(json.dumps(manifest))
    out = run([validators / "skillsaw", "lint", "-v", plugin], check=False).stdout
    assert out.count("(cursor-rules-valid)") == len(list((plugin / "rules").glob("*.md")))


def test_the_validator_would_see_a_wrong_manifest(validators: Path, plugin: Path) -> None:
    manifest = json.loads((plugin / MANIFEST).read_text())
    (plugin / MANIFEST).write_text(json.dumps({**manifest, "name": "Python Backend"}))
    out = run([validators / "skillsaw", "lint", plugin], check=False).stdout
    assert "cursor-plugin-json-valid" in out, out


async def test_the_plugins_server_starts_from_another_folder(
    person: Person, plugin: Path, tmp_path: Path
) -> None:
    (config,) = json.loads((plugin / MANIFEST).read_text())["mcpServers"].values()
    command = filled(config, CURSOR_PLUGIN_ROOT=plugin)
    assert (await ask(command, env=person.env, cwd=tmp_path)).startswith(ANSWER)


def test_the_links_hold_what_the_snippet_says() -> None:
    found = re.findall(r"(?:cursor://|https://cursor\.com/)[^\s)`]*install[^\s)`]*", README)
    assert [link.split("?")[0] for link in found] == [
        "https://cursor.com/en/install-mcp",
        "cursor://anysphere.cursor-deeplink/mcp/install",
    ]
    for link in found:
        query = parse_qs(urlsplit(link).query, strict_parsing=True)
        (name,), (config,) = query["name"], query["config"]
        given = json.loads(base64.b64decode(config, validate=True))
        assert {"mcpServers": {name: given}} == snippet()


async def test_the_snippet_starts_the_server_that_skills_add_installed(
    newcomer: Person, person: Person, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^    npx (skills add OWNER/REPO.*-a cursor.*)$", README, re.MULTILINE)
    newcomer.run(*shlex.split(line), cwd=tmp_path)
    command = filled(snippet()["mcpServers"]["packlore"], userHome=newcomer.home)
    # What was installed for one start serves the next, wherever the folder lies.
    env = {**newcomer.env, "XDG_CACHE_HOME": str(person.home / ".cache")}
    assert (await ask(command, env=env, cwd=tmp_path)).startswith(ANSWER)


def test_the_hook_of_the_readme_fits_cursor_and_is_answered(
    validators: Path, newcomer: Person, person: Person, tmp_path: Path
) -> None:
    """The line for `hooks.json`, with what Cursor sends after an edit."""
    (text,) = re.findall(r'^    (\{"version".*"afterFileEdit".*)$', README, re.MULTILINE)
    write(tmp_path / "project", {".cursor/hooks.json": text})
    out = run([validators / "skillsaw", "lint", "-v", tmp_path / "project"], check=False).stdout
    assert "Errors:   0" in out, out
    assert "Warnings: 0" in out, out

    (line,) = re.findall(r"^    npx (skills add OWNER/REPO.*-a cursor.*)$", README, re.MULTILINE)
    newcomer.run(*shlex.split(line), cwd=tmp_path)
    env = {**newcomer.env, "XDG_CACHE_HOME": str(person.home / ".cache")}
    launcher = newcomer.home / ".agents/skills/python-backend/server/launch.py"
    asyncio.run(ask(["python3", launcher], env=env, cwd=tmp_path))  # it was started once

    code = "import asyncio\n\n\nasync def main(work):\n    asyncio.create_task(work())\n"
    write(tmp_path / "project", {"a.py": code, "requirements.txt": "fastapi\n"})
    given = {
        "conversation_id": "one",
        "hook_event_name": "afterFileEdit",
        "workspace_roots": [str(tmp_path / "project")],
        "file_path": str(tmp_path / "project" / "a.py"),
        "edits": [{"old_string": "", "new_string": code}],
    }
    (hook,) = json.loads(text)["hooks"]["afterFileEdit"]
    done = subprocess.run(
        ["sh", "-c", hook["command"]],
        input=json.dumps(given),
        env=env,
        cwd=newcomer.home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a.py:5, asyncio-task-references" in json.loads(done.stdout)["additional_context"]
