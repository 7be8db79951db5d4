"""Whole first starts, as processes: what installs refuses, what goes wrong, and several at once."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from launcher import install, start
from tests.launching import Machine, finish, wheel

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts"),
    pytest.mark.timeout(300),  # each server that is started imports for a second, or for ten
]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


PIP_FULL = (
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
)
UV_FULL = """error: Failed to install: anyio-4.16.0-py3-none-any.whl (anyio==4.16.0)
  cause: failed to copy file: No space left on device (os error 28)
"""
UV_FOREIGN = """error: Failed to download `anyio==4.16.0`
  cause: Hash mismatch for `anyio==4.16.0`
"""
NO_NETWORK = "ERROR: No matching distribution found for anyio==4.16.0\n"


def says(text: str) -> str:
    """The code of a pip that says so and fails."""
    return f"import sys\nsys.stderr.write({text!r})\nsys.exit(1)\n"


def echoes(text: str) -> str:
    """A uv that says so and fails."""
    return f"#!/bin/sh\ncat >&2 <<'END'\n{text}END\nexit 2\n"


# Several starts


def test_of_two_first_starts_at_once_one_installs_and_both_serve(machine: Machine) -> None:
    machine.uv_that_leads_here("sleep 0.5")
    skill = machine.skill()
    started = [machine.begin(skill) for _ in range(3)]
    assert [finish(each).serves for each in started] == [True] * 3
    assert machine.installs == 1
    assert len(machine.places) == 1
    assert not list(machine.data.glob("building-*"))


def test_two_versions_at_once_in_one_data_folder_both_serve(machine: Machine) -> None:
    machine.uv_that_leads_here("sleep 0.5")
    skills = [machine.skill(name, lock=f"# {name}\n") for name in ("older", "newer")]
    for _ in range(2):  # the second time with what the first has installed
        started = [machine.begin(each) for each in (*skills, *skills)]
        assert [finish(each).serves for each in started] == [True] * 4
        assert machine.installs == 2
        assert len(machine.places) == 2


def test_a_new_version_leaves_a_server_its_packages_however_long_that_runs(
    machine: Machine,
) -> None:
    machine.uv_that_leads_here()
    older, newer = (machine.skill(name, lock=f"# {name}\n") for name in ("older", "newer"))
    assert machine.run(older).serves
    running = machine.begin(older)
    assert running.stdin
    running.stdin.write("\n")
    running.stdin.flush()
    (place,) = machine.places
    ready = place / "packlore-ready"
    os.utime(ready, (0, 0))
    until(lambda: ready.stat().st_mtime > 0)  # it runs, and holds its packages
    os.utime(ready, (0, 0))
    assert machine.run(newer).serves
    assert place in machine.places
    assert finish(running).serves


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# A full disk


@pytest.mark.parametrize(
    ("uv", "pip"),
    [(None, PIP_FULL), (UV_FULL, NO_NETWORK), (NO_NETWORK, PIP_FULL), (UV_FULL, PIP_FULL)],
    ids=["pip", "uv", "pip after uv", "both"],
)
def test_a_full_disk_is_told_as_such(machine: Machine, uv: str | None, pip: str) -> None:
    if uv:
        machine.uv(echoes(uv))
    machine.pip(says(pip))
    done = machine.run(machine.skill())
    assert (done.code, done.out) == (1, "")
    assert done.last == (
        f"packlore: no space left in {machine.data}: make room there, or let PACKLORE_DATA name "
        "another folder"
    )
    assert "network" not in done.err
    assert [path.name for path in machine.data.iterdir()] == ["lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device is Linux's")
def test_a_disk_without_room_for_the_log_is_told_by_the_exit_code(machine: Machine) -> None:
    machine.pip(says(PIP_FULL))
    machine.data.mkdir()
    launcher = machine.skill() / "server" / "launch.py"
    command = [str(machine.python), str(launcher), "--install", str(machine.data)]
    with Path("/dev/full").open("wb") as full:
        code = subprocess.call(command, env=machine.environ({}), stdout=full, stderr=full)
    assert code == install.NO_SPACE


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["mkdtemp", "TemporaryFile"])
def test_a_disk_that_is_full_before_is_told_as_such(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: str,
) -> None:
    monkeypatch.setenv("PACKLORE_DATA", str(machine.data))
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    if call == "mkdtemp":  # in the process that installs, and its parent learns of it
        (machine.modules / "sitecustomize.py").write_text(
            "import errno, tempfile\n"
            "def full(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\n"
            "tempfile.mkdtemp = full\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(machine.modules))
    else:
        monkeypatch.setattr(tempfile, call, full)
    assert start.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"packlore: no space left in {machine.data}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_what_the_installation_itself_cannot_write_has_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def build(_: Path) -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(install, "build", build)
    monkeypatch.setattr(os, "umask", lambda _: 0)
    assert install.main(tmp_path) == install.NO_SPACE


# Hashes


def everything(folder: Path) -> str:
    """A wheel with a module for each that the server imports; its sha256."""
    files: dict[str, str] = {}
    for name in install.IMPORTED:
        parts = name.split(".")
        files |= {f"{'/'.join(parts[: n + 1])}/__init__.py": "" for n in range(len(parts))}
    return wheel(folder, "everything", files, needs="more")


def lock(**hashes: str) -> str:
    return "".join(f"{name}==1.0 --hash=sha256:{each}\n" for name, each in hashes.items())


@pytest.fixture
def offered(machine: Machine) -> dict[str, str]:
    """Where pip finds two wheels, and nothing else. A plain Python may have no pip."""
    machine.python = Path(sys.executable)
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(machine.folder / "offered")}


@pytest.fixture
def hashes(machine: Machine) -> dict[str, str]:
    folder = machine.folder / "offered"
    more = wheel(folder, "more", {"more.py": ""})
    return {"everything": everything(folder), "more": more}


def install_into(machine: Machine, skill: Path, **more: str) -> tuple[int, str]:
    """Only the installation: its exit code, and what it said."""
    machine.data.mkdir(exist_ok=True)
    launcher = skill / "server" / "launch.py"
    command = [str(machine.python), str(launcher), "--install", str(machine.data)]
    done = subprocess.run(
        command,
        cwd=machine.client,
        env=machine.environ(more),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_what_the_lock_names_is_installed(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str]
) -> None:
    assert install_into(machine, machine.skill(lock=lock(**hashes)), **offered) == (0, "")
    (place,) = machine.places
    assert (place / "everything-1.0.dist-info").is_dir()
    assert (place / "more.py").is_file()


@pytest.mark.parametrize("name", ["everything", "more"])
def test_a_file_with_another_hash_is_refused_in_one_clear_line(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str], name: str
) -> None:
    skill = machine.skill(lock=lock(**{**hashes, name: "0" * 64}))
    done = machine.run(skill, **offered)
    assert (done.code, done.out) == (1, "")
    assert done.last == (
        f"packlore: refused: {name}==1.0 is not the file that server/requirements.txt names; "
        "none is installed"
    )
    assert "network" not in done.last
    assert machine.places == []


def test_what_uv_refuses_is_told_even_where_pip_reaches_nothing(machine: Machine) -> None:
    machine.uv(echoes(UV_FOREIGN))
    machine.pip(says(NO_NETWORK))
    done = machine.run(machine.skill())
    assert done.code == 1
    assert done.last.startswith("packlore: refused: anyio==4.16.0 is not the file")


def test_what_has_no_hash_in_the_lock_is_not_installed(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str]
) -> None:
    """Also what a package of the lock asks for."""
    hashes.pop("more")
    code, said = install_into(machine, machine.skill(lock=lock(**hashes)), **offered)
    assert code == install.NO_PACKAGES
    assert "more" in said
    assert machine.places == []


def test_a_lock_without_any_hash_installs_nothing(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str]
) -> None:
    skill = machine.skill(lock="".join(f"{name}==1.0\n" for name in hashes))
    code, said = install_into(machine, skill, **offered)
    assert code == install.NO_PACKAGES
    assert "Hashes are required" in said
    assert machine.places == []


def test_nothing_is_built_here(machine: Machine, offered: dict[str, str]) -> None:
    """Of a source distribution with the right hash, pip would run the program that builds it."""
    folder = machine.folder / "offered"
    folder.mkdir()
    marker = machine.folder / "was-built"
    path = folder / "everything-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "x"\nbackend-path = ["."]\n',
            "x.py": f"open({str(marker)!r}, 'w').close()\n",
            "PKG-INFO": "Metadata-Version: 2.1\nName: everything\nVersion: 1.0\n",
        }.items():
            info = tarfile.TarInfo(f"everything-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    code, _ = install_into(machine, machine.skill(lock=lock(everything=digest)), **offered)
    assert code == install.NO_PACKAGES
    assert not marker.exists()


# What else stands about


OTHERWISE = ("dry-run", "no-deps", "user", "require-virtualenv")


@pytest.mark.parametrize("said_by", ["variables", "configuration"])
def test_what_tells_pip_to_install_otherwise_is_not_heeded(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str], said_by: str
) -> None:
    if said_by == "variables":
        offered |= {f"PIP_{name.replace('-', '_').upper()}": "1" for name in OTHERWISE}
        offered |= {f"PIP_{name}": str(machine.folder / name) for name in ("ROOT", "TARGET")}
    else:
        config = machine.folder / "pip.conf"
        config.write_text("\n".join(["[global]", *(f"{name} = true" for name in OTHERWISE), ""]))
        offered["PIP_CONFIG_FILE"] = str(config)
    skill = machine.skill(lock=lock(**hashes))
    assert install_into(machine, skill, **offered) == (0, "")
    (place,) = machine.places
    assert (place / "everything-1.0.dist-info").is_dir()
    assert not (machine.folder / "ROOT").exists()


def test_a_tool_that_says_it_has_installed_and_has_not_is_not_believed(machine: Machine) -> None:
    machine.uv("#!/bin/sh\nexit 0\n")
    machine.pip("")
    done = machine.run(machine.skill())
    assert done.code == 1
    assert "ModuleNotFoundError: No module named 'anyio'" in done.err
    assert done.last.startswith("packlore: could not install. It needs a network")
    assert machine.places == []


def test_what_uv_has_left_is_not_mixed_with_what_pip_installs(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str]
) -> None:
    machine.uv('#!/bin/sh\nwhile [ "$1" != --target ]; do shift; done\ntouch "$2/half"\nexit 2\n')
    code, _ = install_into(machine, machine.skill(lock=lock(**hashes)), **offered)
    assert code == 0
    (place,) = machine.places
    assert not (place / "half").exists()


@pytest.mark.parametrize("name", ["pip", "anyio", "typing", "hashlib", "launcher"])
def test_the_folder_of_a_client_lends_no_module(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str], name: str
) -> None:
    """It may be a clone of anybody's repository. Nor does the data folder, which may be /tmp."""
    marker = machine.folder / "ran"
    machine.data.mkdir()
    for folder in (machine.client, machine.data):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    machine.run(machine.skill(lock=lock(**hashes)), **offered)
    assert len(machine.places) == 1
    assert not marker.exists()


def test_the_folder_of_a_client_lends_no_uv(machine: Machine) -> None:
    """Where PATH names the current folder, that is the data folder."""
    machine.uv_that_leads_here()
    (machine.client / "uv").write_text(f"#!/bin/sh\ntouch {machine.folder / 'ran'}\nexit 2\n")
    (machine.client / "uv").chmod(0o755)
    assert machine.run(machine.skill(), PATH=f".:{machine.bin}:/usr/bin:/bin").serves
    assert not (machine.folder / "ran").exists()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_installed_is_for_others_to_read_and_not_to_write(
    machine: Machine, hashes: dict[str, str], offered: dict[str, str], umask: int
) -> None:
    before = os.umask(umask)
    try:
        skill = machine.skill(lock=lock(**hashes))
        machine.data.mkdir(mode=0o755)
        assert install_into(machine, skill, **offered) == (0, "")
    finally:
        os.umask(before)
    (place,) = machine.places
    for path in (place, *place.rglob("*")):
        mode = path.stat().st_mode
        assert not mode & (stat.S_IWGRP | stat.S_IWOTH), path
        assert mode & stat.S_IROTH, path


def test_the_disk_of_the_data_folder_is_the_only_one_that_is_filled(machine: Machine) -> None:
    """Also by what the tools unpack for a while; so the folder that is named as full is full."""
    told = machine.folder / "told"
    machine.uv(f'#!/bin/sh\necho "$TMPDIR $TEMP $TMP" > {told}\nexit 2\n')
    machine.pip(says(NO_NETWORK))
    machine.run(machine.skill(), TMPDIR="/tmp")
    places = {Path(each).parent for each in told.read_text().split()}
    assert places == {machine.data}
    assert [path.name for path in machine.data.iterdir()] == ["lock"]


# Parts that are taken away


def test_packages_that_cannot_be_imported_any_more_are_made_again_once(machine: Machine) -> None:
    """A part that is deep inside is missed only when it is imported."""
    machine.uv_that_leads_here()
    skill = machine.skill()
    assert machine.run(skill).serves
    (place,) = machine.places
    (place / "environment.pth").write_text("")
    done = machine.run(skill)
    assert done.serves
    assert machine.installs == 2
    assert "packlore: first start: installing, this takes a minute" in done.err


def test_what_new_packages_do_not_mend_is_an_error_and_no_loop(machine: Machine) -> None:
    machine.uv_that_leads_here()
    skill = machine.skill()
    (skill / "server" / "packlore" / "cli" / "__init__.py").write_text("import gone\n")
    done = machine.run(skill)
    assert (done.code, done.out) == (1, "")
    assert done.last == "ModuleNotFoundError: No module named 'gone'"
    assert machine.installs == 2


def test_a_start_writes_nothing_into_the_skill(machine: Machine) -> None:
    machine.uv_that_leads_here()
    skill = machine.skill()
    before = {path.relative_to(skill) for path in skill.rglob("*")}
    assert machine.run(skill).serves
    assert {path.relative_to(skill) for path in skill.rglob("*")} == before
    assert list((machine.data / "compiled").rglob("*.pyc")) != []
