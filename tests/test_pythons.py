"""Which Python each side of `make test` runs on: the newest one, and 3.11 or 3.12."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.proofs.harness import ROOT

# Answers as a Python of the version {version} does, and makes environments that can do nothing.
FAKE = """#!/bin/sh
case $1 in
  -c) exec {python} -c '
import ensurepip, sys, venv
sys.version_info = {version}
sys.executable, code = sys.argv.pop(1), sys.argv.pop(1)
exec(code)' "$0" "$2" "$3" ;;
  -m) mkdir -p "$4/bin" && printf '#!/bin/sh\\n' > "$4/bin/python" && chmod +x "$4/bin/python" ;;
esac
"""


@dataclass
class Machine:
    """A machine with these Pythons and nothing else that concerns us."""

    folder: Path
    path: list[Path] = field(default_factory=list)

    def put(self, place: str, version: tuple[int, int, int, str, int]) -> Path:
        """Lay a Python at a place such as a/python3, and its folder on PATH unless it is pyenv's."""
        program = self.folder / place
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(FAKE.format(python=sys.executable, version=json.dumps(version)[1:-1]))
        program.chmod(0o755)
        if program.parent not in self.path and "versions" not in program.parts:
            self.path.append(program.parent)
        return program

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = ":".join(map(str, self.path))
        variables = {"PATH": path, "PYENV_ROOT": str(self.folder / "pyenv"), **variables}
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
        )

    def chosen(self, side: str, **variables: str) -> str:
        told = self.run("scripts/python.sh", side, **variables)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("chmod", "cksum", "head", "mkdir", "sh", "sort", "touch"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    return Machine(tmp_path, [tools])


def test_the_newest_side_takes_the_newest_release_wherever_it_lies(machine: Machine) -> None:
    machine.put("a/python3", (3, 11, 7, "final", 0))
    machine.put("a/python3.14", (3, 14, 8, "final", 0))
    newest = machine.put("pyenv/versions/3.14.10/bin/python3", (3, 14, 10, "final", 0))
    machine.put("b/python3.13", (3, 13, 12, "final", 0))
    assert machine.chosen("newest") == str(newest)


def test_the_newest_side_takes_what_make_servers_laid_where_nothing_newer_is_there(
    machine: Machine, tmp_path: Path
) -> None:
    machine.put("a/python3.14", (3, 14, 8, "final", 0))
    laid = machine.put("servers/newest/python3.15-forky/bin/python3", (3, 15, 1, "final", 0))
    machine.path.remove(laid.parent)
    assert machine.chosen("newest", PACKLORE_DEV=str(tmp_path)) == str(laid)
    installed = machine.put("a/python3.15", (3, 15, 1, "final", 0))
    assert machine.chosen("newest", PACKLORE_DEV=str(tmp_path)) == str(installed)


def test_the_newest_side_takes_no_release_that_is_not_out_yet(machine: Machine) -> None:
    machine.put("a/python3.16", (3, 16, 0, "alpha", 2))
    released = machine.put("a/python3.15", (3, 15, 0, "final", 0))
    assert machine.chosen("newest") == str(released)


def test_the_oldest_side_takes_the_first_3_11_on_the_path(machine: Machine) -> None:
    machine.put("a/python3", (3, 13, 0, "final", 0))
    first = machine.put("a/python3.11", (3, 11, 7, "final", 0))
    machine.put("b/python3.11", (3, 11, 2, "final", 0))
    machine.put("b/python3.10", (3, 10, 9, "final", 0))
    assert machine.chosen("oldest") == str(first)


def test_the_oldest_side_takes_3_12_where_there_is_no_3_11(machine: Machine) -> None:
    machine.put("a/python3", (3, 13, 0, "final", 0))
    older = machine.put("a/python3.12", (3, 12, 1, "final", 0))
    assert machine.chosen("oldest") == str(older)


def test_one_python_serves_both_sides(machine: Machine) -> None:
    only = machine.put("a/python3", (3, 11, 2, "final", 0))
    assert machine.chosen("newest") == machine.chosen("oldest") == str(only)


@pytest.mark.parametrize(("side", "variable"), [("newest", "PYTHON"), ("oldest", "PYTHON_OLDEST")])
def test_a_variable_names_another(machine: Machine, side: str, variable: str) -> None:
    machine.put("a/python3.14", (3, 14, 8, "final", 0))
    named = machine.put("b/python3.12", (3, 12, 1, "final", 0))
    assert machine.chosen(side, **{variable: str(named)}) == str(named)
    assert machine.chosen(side, **{variable: "python3.12"}) == str(named)
    assert "no python4" in machine.run("scripts/python.sh", side, **{variable: "python4"}).stderr


@pytest.mark.parametrize(
    ("side", "needs"), [("newest", "Python 3.11 or later"), ("oldest", "Python 3.11 or 3.12")]
)
def test_where_none_fits_it_says_what_is_needed(machine: Machine, side: str, needs: str) -> None:
    machine.put("a/python3", (3, 10, 12, "final", 0))
    told = machine.run("scripts/python.sh", side)
    assert (told.returncode, told.stdout) == (1, "")
    assert needs in told.stderr


def test_make_sets_each_side_up_with_its_python(machine: Machine, tmp_path: Path) -> None:
    old = machine.put("a/python3.11", (3, 11, 2, "final", 0))
    new = machine.put("a/python3.14", (3, 14, 8, "final", 0))
    make = shutil.which("make")
    assert make
    sides = {"newest": new, "oldest": old}
    stamps = [str(tmp_path / side / ".python") for side in sides]
    told = machine.run(make, *stamps, PACKLORE_DEV=str(tmp_path))
    assert told.returncode == 0, told.stderr
    for side, python in sides.items():
        assert f"setting up {tmp_path / side} with {python}\n" in told.stderr
