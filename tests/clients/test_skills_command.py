"""`skills add`: the skill is found, and what is installed works, its server included."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clients.tools import Person, run


def test_it_lists_one_skill(person: Person) -> None:
    out = person.run("skills", "add", person.clone, "--list").stdout
    assert "python-backend" in out
    assert "Found 1 skill" in out


@pytest.mark.parametrize("agent", ["claude-code", "cursor"])
def test_it_installs_a_skill_whose_server_answers(
    person: Person, tmp_path: Path, agent: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    person.run("skills", "add", person.clone, "-y", "-a", agent, "--copy", cwd=project)
    (skill,) = project.glob(".*/skills/python-backend/SKILL.md")
    folder = skill.parent
    assert not (folder / "metadata.json").exists()
    assert not list(folder.rglob("__pycache__"))
    assert not list(folder.glob(".venv*"))
    done = run(
        [sys.executable, "-m", "packlore", "search", "greenlet_spawn has not been called"],
        env={"PYTHONPATH": str(folder / "server"), "PATH": ""},
    )
    assert done.stdout.startswith("sqlalchemy-expire-on-commit ")
