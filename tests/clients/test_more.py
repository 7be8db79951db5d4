"""More clients, for `make test-clients`: they are large, and change often."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from packlore.read import read
from tests.clients import tools
from tests.clients.tools import Person, run
from tests.conftest import skip_where_missing
from tests.packs import write
from tests.proofs.harness import ROOT

pytestmark = [pytest.mark.more, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def other(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    with skip_where_missing():
        commands = tools.node_tools(tools.MORE_NPM)
        return Person(tmp_path_factory.mktemp("home"), clone, commands)
    raise AssertionError


def server(clone: Path) -> list[str]:
    return [sys.executable, "-m", "packlore", "serve", "--pack", str(clone)]


def test_the_scanner_finds_nothing_grave_in_what_is_served(tmp_path: Path) -> None:
    """Of the whole repository it reports the tests, which execute the blocks of the rules."""
    with skip_where_missing():
        commands = tools.python_tools(tools.SCANNER)
    (pack,) = read(ROOT)
    folder = write(tmp_path / "python-backend", {file.path: file.data for file in pack.files})
    options = ["scan", str(folder), "--fail-on-severity", "high"]
    done = run([commands / "skill-scanner", *options], check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_opencode_connects(other: Person, tmp_path: Path) -> None:
    config = {"mcp": {"packlore": {"type": "local", "command": server(other.clone)}}}
    (tmp_path / "opencode.json").write_text(json.dumps(config))
    out = other.run("opencode", "mcp", "list", cwd=tmp_path)
    assert "connected" in (out.stdout + out.stderr)


def test_gemini_connects(other: Person, tmp_path: Path) -> None:
    settings = other.home / ".gemini" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    command, *arguments = server(other.clone)
    content = {
        "security": {"folderTrust": {"enabled": False}},
        "mcpServers": {"packlore": {"command": command, "args": arguments}},
    }
    settings.write_text(json.dumps(content))
    out = other.run("gemini", "mcp", "list", cwd=tmp_path)
    assert "Connected" in (out.stdout + out.stderr)


def test_codex_loads_the_skill(other: Person, tmp_path: Path) -> None:
    skill = tmp_path / ".agents" / "skills" / "python-backend"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_bytes((other.clone / "SKILL.md").read_bytes())
    run(["git", "init", "-q", tmp_path])
    out = other.run("codex", "debug", "prompt-input", "hi", cwd=tmp_path)
    assert "python-backend" in out.stdout


def test_library_skills_finds_the_skill_of_the_wheel(clone: Path, tmp_path: Path) -> None:
    with skip_where_missing():
        commands = tools.python_tools(tools.LIBRARY_SKILLS)
    env = tmp_path / ".venv"
    run([sys.executable, "-m", "venv", env])
    run([env / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", clone])
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["packlore"]\n'
    )
    done = run([commands / "library-skills", "list"], cwd=tmp_path, check=False)
    assert "python-backend" in done.stdout + done.stderr, done.stdout + done.stderr
