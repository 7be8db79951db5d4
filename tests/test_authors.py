"""What the README and CONTRIBUTING tell an author to type works, letter for letter."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from packlore import author
from packlore.cli.arguments import parser
from packlore.cli.commands import COMMANDS
from packlore.pack.model import tokens
from packlore.pack.read import read
from tests.packs import rule
from tests.proofs.harness import ROOT


def commands_after(heading: str, path: str) -> list[str]:
    """The lines of the first indented block below a heading."""
    text = (ROOT / path).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    block = re.search(r"(?:^    \S.*\n)+", section, re.MULTILINE)
    assert block
    return [line.strip() for line in block[0].splitlines()]


def wrapper(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def typed(line: str, folder: Path, environ: dict[str, str]) -> str:
    """What a line says that somebody types in `folder`, and that must not fail."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


async def test_the_readmes_way_to_a_pack_of_ones_own_ends_with_a_server_that_answers(
    tmp_path: Path,
) -> None:
    wrapper(tmp_path / "bin" / "packlore", f'exec "{sys.executable}" -m packlore "$@"')
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "server"), "PATH": path}
    *before, last = commands_after("A pack of your own", "README.md")
    assert [line.split()[1] for line in before] == ["init", "new", "build", "lint"]
    for line in before:
        typed(line, tmp_path, environ)
    command, *arguments = shlex.split(last)
    assert arguments[0] == "serve"
    server = StdioServerParameters(
        command=str(tmp_path / "bin" / command), args=arguments, env=environ, cwd=str(tmp_path)
    )
    async with Client(stdio_client(server)) as client:
        for query, rule_id in (
            ("RuntimeError: dictionary changed size during iteration", "loops-changed-dictionary"),
            (before[1].split()[2].partition("-")[2].replace("-", " "), before[1].split()[2]),
        ):
            result = await client.call_tool("find_rules", {"query": query})
            assert not result.is_error
            assert result.content[0].text.startswith(f"{rule_id} (")  # type: ignore[union-attr]


IN_ORDER = ("new", "proofs", "proofs-oldest", "build", "lint", "mutants", "evidence", "test")
PROOF = '''\
"""A stand-in: the blocks are there and differ."""

from tests.proofs.harness import Block, Witness


def test_incorrect(incorrect: Block, witness: Witness) -> None:
    witness.saw(incorrect.code, "TimeoutError: it took too long")
    assert "read_bounded" not in incorrect.code
    witness.observed(incorrect="it waits")


def test_correct(correct: Block, witness: Witness) -> None:
    assert "read_bounded" in correct.code
    witness.observed(correct="it ends")
'''


def copy_of_the_repository(folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".venv*", ".cache")
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


def stand_in_environments(dev: Path) -> None:
    """What `make` would install is this Python. Ruff and mypy say nothing of an author's order."""
    for name in ("newest", "oldest"):
        bin_ = dev / name / "bin"
        wrapper(bin_ / "python", f'exec "{sys.executable}" "$@"')
        wrapper(bin_ / "packlore", f'exec "{sys.executable}" -m packlore "$@"')
        wrapper(bin_ / "ruff", "exit 0")
        wrapper(bin_ / "mypy", "exit 0")
        for each in (".made", ".run", ".test"):  # newer than what they are made from
            (dev / name / each).touch()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.timeout(600)
def test_contributings_order_works_for_one_more_rule(tmp_path: Path) -> None:
    repository = copy_of_the_repository(tmp_path / "repository")
    stand_in_environments(tmp_path / "dev")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environ |= {"PACKLORE_DEV": str(tmp_path / "dev"), "PYTHONPATH": f"server{os.pathsep}."}
    lines = commands_after("Add a rule in two files", "CONTRIBUTING.md")
    assert tuple(line.split()[1] for line in lines) == IN_ORDER
    rules = sum(1 for _ in (repository / "rules").glob("[!_]*.md"))
    new_id = lines[0].partition("RULE=")[2]
    category = new_id.partition("-")[0]

    said = typed(lines[0], repository, environ)
    markdown = repository / "rules" / f"{new_id}.md"
    proof = repository / "tests" / "proofs" / f"test_{new_id.replace('-', '_')}.py"
    checklist = re.search(r"(checklists/\S+): an item that ends with", said)
    assert f"wrote {markdown.relative_to(repository)}" in said
    assert f"wrote {proof.relative_to(repository)}" in said
    assert checklist
    for line in lines[3:5]:
        unfinished = subprocess.run(
            shlex.split(line), cwd=repository, env=environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert unfinished.returncode, "lint takes a rule that nobody has filled in"
    assert f"rules/{new_id}.md:1: warning: unfilled" in unfinished.stdout

    markdown.write_text(rule("Say in an example how long it may take", category=category))
    proof.write_text(PROOF)
    with (repository / checklist[1]).open("a") as file:
        file.write(f"- [ ] The example is bounded. `{new_id}`\n")
    for line in lines[1:5]:  # those that remain run proofs many times, and all tests
        typed(line, repository, environ)
    skill = (repository / "SKILL.md").read_text()
    assert f"## {rules + 1} rules" in skill
    named = skill + "".join(path.read_text() for path in repository.glob("rules/_index.md"))
    assert f"- `{new_id}`: Say in an example" in named


@pytest.mark.parametrize("more", [1, 156])
def test_one_more_rule_and_a_200th_fit(tmp_path: Path, more: int) -> None:
    for name in ("SKILL.md", "rules", "references", "examples", "checklists", "assets"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tmp_path / name)
    (checklist,) = tmp_path.glob("checklists/connection-pool-checklist.md")
    with checklist.open("a") as file:
        for number in range(more):
            new_id = f"pooling-further-{number}"
            title = f"Bound the further wait number {number} of a pool"
            text = rule(title, category="pooling")
            (tmp_path / "rules" / f"{new_id}.md").write_text(text)
            file.write(f"- [ ] The wait is bounded. `{new_id}`\n")
    author.derive(tmp_path)
    (pack,) = read(tmp_path)
    assert [str(each) for each in author.problems(pack) if "further" in str(each)] == []
    assert [each for each in author.problems(pack) if each.path == "SKILL.md"] == []
    assert tokens((tmp_path / "SKILL.md").read_text()) < 2_000


def test_contributing_names_a_small_proof_to_imitate() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"Imitate \[(tests/proofs/test_\w+\.py)\]\(\1\)", text)
    sizes = sorted(
        (ROOT / "tests" / "proofs").glob("test_*.py"), key=lambda path: path.stat().st_size
    )
    assert ROOT / named in sizes[:8]


def test_no_command_is_undocumented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    help_ = parser().format_help()
    for name in COMMANDS:
        assert re.search(rf"packlore {name}\b", readme), name
        assert re.search(rf"^    {name}\s+\S", help_, re.MULTILINE), name


def test_no_option_is_undocumented() -> None:
    known = parser()
    (commands,) = [each.choices for each in known._actions if isinstance(each.choices, dict)]
    assert list(commands) == list(COMMANDS)
    for name, command in commands.items():
        assert command.description, name
        for action in command._actions:
            assert action.help, f"{name} {action.dest}"
