"""The launcher as a hook starts it, after an edit for which an agent waits; and what only checking
code needs, which is not to be had everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import install
from launcher.place import READY
from tests.check.test_reading import GOOD
from tests.launching import Machine, wheel
from tests.packs import write

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts"),
    pytest.mark.timeout(300),
]
CODE = "import time\n\n\ndef f():\n    time.sleep(1)\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def skill_with_a_detector(machine: Machine) -> Path:
    made = machine.skill()
    write(made, {"rules/asyncio-timeout.yml": GOOD})
    return made


def after_an_edit(machine: Machine, skill: Path) -> subprocess.CompletedProcess[str]:
    """What the launcher says as a hook, after `CODE` was written into a file of the client."""
    write(machine.client, {"a.py": CODE})
    given = {
        "session_id": "one",
        "cwd": str(machine.client),
        "tool_input": {"file_path": str(machine.client / "a.py")},
    }
    return subprocess.run(
        [machine.python, skill / "server" / "launch.py", "hook"],
        cwd=machine.client,
        env=machine.environ({"TMPDIR": str(machine.folder)}),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_hook_installs_nothing_and_says_nothing(machine: Machine) -> None:
    machine.uv_that_leads_here()
    done = after_an_edit(machine, machine.skill())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.installs == 0
    assert not machine.data.exists()


def test_a_hook_tells_what_it_found_once_the_server_has_been_started(machine: Machine) -> None:
    machine.uv_that_leads_here()
    skill = skill_with_a_detector(machine)
    assert machine.run(skill).serves
    done = after_an_edit(machine, skill)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]
    assert "a.py:5, asyncio-timeout: it waits" in said
    assert machine.installs == 1


def test_a_hook_whose_packages_are_broken_says_nothing_and_leaves_them_to_the_next_start(
    machine: Machine,
) -> None:
    machine.uv_that_leads_here()
    skill = skill_with_a_detector(machine)
    assert machine.run(skill).serves
    (place,) = machine.places
    (place / "environment.pth").write_text("")
    done = after_an_edit(machine, skill)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.installs == 1
    assert not (place / READY).exists()
    assert machine.run(skill).serves
    assert machine.installs == 2


def test_a_hook_runs_nothing_that_others_may_have_put_there(machine: Machine) -> None:
    machine.uv_that_leads_here()
    skill = skill_with_a_detector(machine)
    assert machine.run(skill).serves
    machine.places[0].chmod(0o777)
    done = after_an_edit(machine, skill)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What only checking needs


def skill_that_wants(machine: Machine, optional: str) -> Path:
    """A skill whose lock is empty, and whose optional lock has one package."""
    made = machine.skill(lock="")
    (made / "server" / "requirements-check.txt").write_text(optional)
    return made


def installed(machine: Machine, skill: Path) -> tuple[int, str]:
    """The exit code of the installation, and what it said; by pip, from files alone."""
    module = skill / "server" / "launcher" / "install.py"
    emptied = re.sub(r"(?s)\nIMPORTED = \(.*?\n\)", "\nIMPORTED = ()", module.read_text("utf-8"))
    module.write_text(emptied)
    machine.data.mkdir(exist_ok=True)
    offered = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(machine.folder / "offered")}
    done = subprocess.run(
        [sys.executable, skill / "server" / "launch.py", "--install", machine.data],
        env=machine.environ({**offered, "PATH": "/nowhere", "PYTHONPATH": ""}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stderr


def test_what_checking_needs_is_installed_beside_the_rest(machine: Machine) -> None:
    digest = wheel(machine.folder / "offered", "ast_grep_py", {"ast_grep_py.py": ""})
    skill = skill_that_wants(machine, f"ast_grep_py==1.0 --hash=sha256:{digest}\n")
    assert installed(machine, skill) == (0, "")
    (place,) = machine.places
    assert (place / "ast_grep_py.py").is_file()
    assert "ast_grep_py.py" in (place / READY).read_text().split()


@pytest.mark.parametrize(
    ("offered", "hashed", "why"),
    [
        (None, "", "no wheel of it was found that works with Python"),
        (
            {"ast_grep_py.py": "raise OSError"},
            "",
            "no wheel of it was found that works with Python",
        ),
        ({"ast_grep_py.py": ""}, "0" * 64, "it is not the file that server/requirements-check.txt"),
    ],
    ids=["no wheel", "a wheel that cannot be imported", "another file"],
)
def test_a_machine_that_cannot_have_it_gets_all_else_and_one_line(
    machine: Machine, offered: dict[str, str] | None, hashed: str, why: str
) -> None:
    digest = wheel(machine.folder / "offered", "ast_grep_py", offered) if offered else "1" * 64
    skill = skill_that_wants(machine, f"ast_grep_py==1.0 --hash=sha256:{hashed or digest}\n")
    (machine.folder / "offered").mkdir(exist_ok=True)
    code, said = installed(machine, skill)
    assert code == 0
    (line,) = said.splitlines()
    assert line.startswith(
        f"{install.LEFT_OUT}, all else works: ast-grep-py is not installed, {why}"
    )
    (place,) = machine.places
    assert not (place / "ast_grep_py.py").exists()
    assert not list(machine.data.glob("building-*"))


def test_a_start_hands_that_line_on_and_serves(machine: Machine) -> None:
    machine.uv_that_leads_here(
        'case "$*" in *requirements-check.txt*) echo no wheels; exit 1 ;; esac'
    )
    done = machine.run(machine.skill())
    assert done.serves
    (line,) = [each for each in done.err.splitlines() if install.LEFT_OUT in each]
    assert line.startswith(f"packlore: {install.LEFT_OUT}, all else works: ")
    assert "no wheels" not in done.err


def test_a_hook_is_answered_at_once_while_an_installation_runs(machine: Machine) -> None:
    machine.uv_that_leads_here(f"while ! test -e {machine.folder}/go; do sleep 0.05; done")
    skill = machine.skill()
    server = machine.begin(skill)
    until = time.monotonic() + 60
    while machine.installs == 0:
        assert time.monotonic() < until
        time.sleep(0.02)
    done = after_an_edit(machine, skill)  # else it would wait for `go`, and time out
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (machine.folder / "go").touch()
    assert server.communicate(timeout=100) is not None
