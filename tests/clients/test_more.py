"""More clients, for `make test-clients`: they are large, and change often."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.git_over_http import git_over_http
from tests.clients.tools import ANSWER, Person, ask, files_of, run
from tests.packs import write
from tests.proofs.harness import ROOT

README = (ROOT / "README.md").read_text("utf-8")
pytestmark = [pytest.mark.more, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def other(clone: Path, remote: Path, tmp_path_factory: pytest.TempPathFactory) -> Person:
    home = tmp_path_factory.mktemp("home")
    tools.on_github(remote, home)
    return Person(home, clone, tools.node_tools(tools.MORE_NPM))


def test_the_scanner_finds_nothing_grave_in_what_is_installed(
    released: Path, tmp_path: Path
) -> None:
    commands = tools.python_tools(tools.SCANNER)
    command: list[str | Path] = [commands / "skill-scanner", "scan"]
    command += ["--fail-on-severity", "high"]
    done = run([*command, released], check=False)
    assert done.returncode == 0, done.stdout

    # It would have seen something.
    tree = tmp_path / "python-backend"
    shutil.copytree(released, tree)
    write(tree, {"server/more.py": 'import os\n\nos.system("true")\n'})
    done = run([*command, tree], check=False)
    assert done.returncode == 1, done.stdout
    assert "HIGH" in done.stdout


async def started(person: Person, launcher: Path) -> None:
    """The first start installs, and these clients wait for a server only a few seconds."""
    answer = await ask(["python3", launcher], env=person.env, cwd=person.home)
    assert answer.startswith(ANSWER)


async def test_opencode_has_the_skill_and_connects_as_the_readme_says(
    other: Person, node: Path, tmp_path: Path
) -> None:
    (line,) = re.findall(r"`npx (skills add OWNER/REPO.*-a opencode.*?)`", README)
    installing = Person(other.home, other.clone, node)
    installing.run(*shlex.split(line), cwd=tmp_path)
    (config,) = re.findall(r'^    (\{"mcp": .*)$', README, re.MULTILINE)
    (tmp_path / "opencode.json").write_text(config)
    await started(other, other.home / ".agents/skills/python-backend/server/launch.py")
    out = other.run("opencode", "mcp", "list", cwd=tmp_path)
    assert re.search(r"packlore (\x1b\[\d+m)*connected", out.stdout + out.stderr), out
    skills = json.loads(other.run("opencode", "debug", "skill", cwd=tmp_path).stdout)
    assert "python-backend" in [skill["name"] for skill in skills]


async def test_gemini_installs_the_server_and_the_skill(
    other: Person, remote: Path, released: Path, tmp_path: Path
) -> None:
    """Gemini lets no configuration of git name another place for GitHub."""
    settings = other.home / ".gemini" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(json.dumps({"security": {"folderTrust": {"enabled": False}}}))
    lines = re.findall(r"^    gemini (.*)$", README, re.MULTILINE)
    assert len(lines) == 2
    with git_over_http(remote.parents[1]) as address:
        for line in lines:
            here = line.replace("https://github.com", address).replace("~", str(other.home))
            other.run("gemini", *here.split(), "--consent", cwd=tmp_path)
    extension = other.home / ".gemini" / "extensions" / "python-backend"
    await started(other, extension / "server" / "launch.py")
    out = other.run("gemini", "mcp", "list", cwd=tmp_path)
    said = out.stdout + out.stderr
    assert re.search(rf"packlore \(from python-backend\): python3 {extension}\S+", said), said
    assert "Connected" in said, said
    listed = other.run("gemini", "skills", "list", cwd=tmp_path)
    assert "python-backend [Enabled]" in listed.stdout + listed.stderr
    skill = other.home / ".gemini" / "skills" / "python-backend"
    for folder in (extension, skill):
        added = files_of(folder).keys() - files_of(released).keys()
        assert added <= {".gemini-extension-install.json"}
        assert files_of(released).keys() <= files_of(folder).keys()


async def test_codex_installs_the_skill_and_the_server(other: Person, tmp_path: Path) -> None:
    """Codex leaves ${CLAUDE_PLUGIN_ROOT} as it stands and finds no skill at a plugin's root, so it
    has a manifest of its own: `cwd` is relative to the plugin, and of the spellings of its root
    only `./.` gave the skill."""
    lines = re.findall(r"^    codex (.*)$", README, re.MULTILINE)
    assert len(lines) == 3
    for line in lines[:2]:  # the third is for test_codex_hook.py
        other.run("codex", *line.split(), cwd=tmp_path)
    (config,) = json.loads(other.run("codex", "mcp", "list", "--json", cwd=tmp_path).stdout)
    transport = config["transport"]
    command = [transport["command"], *transport["args"]]
    answer = await ask(command, env=other.env, cwd=Path(transport["cwd"]))
    assert answer.startswith(ANSWER)
    out = other.run("codex", "debug", "prompt-input", "hi", cwd=tmp_path)
    assert "python-backend:python-backend: Proven rules" in out.stdout


def test_library_skills_finds_the_skill_of_the_wheel(clone: Path, tmp_path: Path) -> None:
    commands = tools.python_tools(tools.LIBRARY_SKILLS)
    env = tmp_path / ".venv"
    run([sys.executable, "-m", "venv", env])
    run([env / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", clone])
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["packlore"]\n'
    )
    done = run([commands / "library-skills", "list"], cwd=tmp_path, check=False)
    assert "python-backend" in done.stdout + done.stderr, done.stdout + done.stderr
