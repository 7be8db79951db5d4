"""The launcher installs once and leaves nothing half done. No network: a stand-in does the
installation; the real one is in tests/clients."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.proofs.harness import ROOT
from tests.services import serving_process


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", ROOT / "server" / "launch.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ready(launch: ModuleType, tmp_path: Path) -> Path:
    """The folder of an installation that is complete, and empty."""
    place: Path = launch.place_for(tmp_path / "data")
    place.mkdir(parents=True)
    (place / launch.READY).touch()
    return place


def test_data_goes_where_it_is_told_or_to_the_cache(launch: ModuleType, tmp_path: Path) -> None:
    assert launch.data_folder({"PACKLORE_DATA": str(tmp_path)}) == tmp_path
    assert launch.data_folder({"PACKLORE_DATA": "~/x"}) == Path.home() / "x"
    assert launch.data_folder({"PACKLORE_DATA": "x"}) == Path.cwd() / "x"
    unfilled = {"PACKLORE_DATA": "${CLAUDE_PLUGIN_DATA}", "XDG_CACHE_HOME": str(tmp_path)}
    if sys.platform == "linux":
        assert launch.data_folder(unfilled) == tmp_path / "packlore"


def test_what_is_ready_is_taken_as_it_is(launch: ModuleType, tmp_path: Path) -> None:
    place = launch.place_for(tmp_path)
    place.mkdir()
    (place / launch.READY).touch()
    assert launch.packages(tmp_path) == place


def test_an_interrupted_installation_leaves_nothing_that_looks_ready(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(target: Path) -> None:
        (target / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_no_start_uses_is_removed_in_time(launch: ModuleType, tmp_path: Path) -> None:
    ages = {"building-old": 2 * launch.ABANDONED, "building-new": 0}
    ages |= {"packages-old": 2 * launch.UNUSED, "packages-new": launch.UNUSED / 2}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / launch.READY).touch()
        for path in (tmp_path / name / launch.READY, tmp_path / name):
            os.utime(path, (time.time() - age,) * 2)
    launch._clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"building-new", "packages-new"}


def test_a_start_says_that_its_packages_are_in_use(launch: ModuleType, ready: Path) -> None:
    os.utime(ready / launch.READY, (0, 0))
    assert launch.packages(ready.parent) == ready
    assert (ready / launch.READY).stat().st_mtime > time.time() - 3600


def test_of_two_installations_at_once_the_second_waits_for_the_first(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    made: list[Path] = []

    def install(target: Path) -> None:
        made.append(target)
        begun.set()
        assert go.wait(20)

    monkeypatch.setattr(launch, "_install", install)
    threads = [threading.Thread(target=launch.build, args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    time.sleep(0.1)  # the second has come to the lock, or comes later and finds the work done
    go.set()
    for thread in threads:
        thread.join()
    place = launch.place_for(tmp_path)
    assert (place / launch.READY).is_file()
    assert place.stat().st_mode & 0o777 == 0o755
    assert len(made) == 1
    assert {path.name for path in tmp_path.iterdir()} == {place.name, "lock"}


def test_packages_that_somebody_damaged_are_made_again(
    launch: ModuleType, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ready / launch.READY).unlink()
    (ready / "half").touch()
    monkeypatch.setattr(launch, "_install", lambda target: (target / "whole").touch())
    launch.build(ready.parent)
    assert {path.name for path in ready.iterdir()} == {launch.READY, "whole"}


def test_an_update_of_the_pins_makes_a_new_folder(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = launch.place_for(tmp_path)
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes() + b"# new\n")
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    assert launch.place_for(tmp_path) != first


def test_what_was_installed_comes_before_what_this_python_has(ready: Path) -> None:
    """Folders that a .pth file names as well: so pywin32 is laid out."""
    (ready / "deep").mkdir()
    (ready / "more.pth").write_text("deep\n")
    (ready / "yaml.py").write_text("import markdown_it")
    (ready / "deep" / "markdown_it.py").write_text("raise SystemExit(__file__)")
    said = launched(PACKLORE_DATA=str(ready.parent), PATH="/usr/bin:/bin")
    assert said.strip() == str(ready / "deep" / "markdown_it.py")


def test_workers_start_through_the_launcher_and_compile_outside_the_skill(
    ready: Path, tmp_path: Path
) -> None:
    skill = tmp_path / "python-backend"
    for part in ("server", "rules"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, skill / part, ignore=unwanted)
    for name in ("SKILL.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, skill)
    command = [sys.executable, str(skill / "server" / "launch.py"), "serve", "--http"]
    environ = {"PACKLORE_DATA": str(ready.parent), "PYTHONDONTWRITEBYTECODE": ""}
    with serving_process(
        [*command, "--port", "{port}", "--workers", "2"], env=environ, path="/health"
    ) as program:
        assert httpx.get(f"{program.url}/health").json()["status"] == "ok"
        assert program.terminate() in (0, -signal.SIGTERM)
    compiled = ready.parent / "compiled" / skill.relative_to(skill.anchor) / "server" / "packlore"
    assert [*compiled.rglob("server.*.pyc")] != []
    assert [*skill.rglob("__pycache__")] == []


def test_an_installation_outlives_the_client_that_gave_up(tmp_path: Path) -> None:
    """The stand-in for pip waits until the launcher is gone, and then finishes."""
    (tmp_path / "bin").mkdir()
    go = tmp_path / "go"
    uv = tmp_path / "bin" / "uv"
    uv.write_text(
        f"#!/bin/sh\ntouch {tmp_path}/started\nwhile ! test -e {go}; do sleep 0.05; done\n"
    )
    uv.chmod(0o755)
    data = tmp_path / "data"
    launcher = subprocess.Popen(
        [sys.executable, str(ROOT / "server" / "launch.py")],
        start_new_session=True,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PACKLORE_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    until((tmp_path / "started").exists)
    os.killpg(launcher.pid, signal.SIGKILL)
    out, _ = launcher.communicate()
    assert out == b""
    assert not list(data.glob("packages-*"))
    go.touch()
    until(lambda: [*data.glob("packages-*/packlore-ready")] != [])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def launched(**env: str) -> str:
    """What the launcher says where it cannot install: on stderr alone, and with exit code 1."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "launch.py")],
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_what_cannot_be_installed_is_told_on_stderr_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    said = launched(PATH=str(tmp_path / "bin"), PACKLORE_DATA="/dev/null/x", HOME=str(tmp_path))
    assert "PACKLORE_DATA names another folder" in said


def test_where_uv_and_pip_both_fail_both_are_named_in_few_lines(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text("#!/bin/sh\necho no index >&2\nexit 2\n")
    uv.chmod(0o755)
    text = launched(
        PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin",
        PACKLORE_DATA=str(tmp_path / "data"),
        PIP_NO_INDEX="1",
        PIP_CONFIG_FILE=os.devnull,
    )
    said = text.splitlines()
    assert said[1:3] == ["packlore: no index", "packlore: uv could not install"]
    assert said[-2] == "packlore: pip could not install"
    assert said[-1].startswith("packlore: could not install. It needs a network")
    assert "Traceback" not in text
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]


def test_uv_that_cannot_be_run_is_followed_by_pip(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text("#!/nowhere/sh\n")
    (tmp_path / "bin" / "uv").chmod(0o755)
    text = launched(
        PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin",
        PACKLORE_DATA=str(tmp_path / "data"),
        PIP_NO_INDEX="1",
        PIP_CONFIG_FILE=os.devnull,
    )
    assert text.splitlines()[1] == "packlore: uv could not install"
    assert text.splitlines()[-2] == "packlore: pip could not install"


def test_a_place_that_cannot_be_written_is_told_with_a_way_out(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    (data / "lock").mkdir(parents=True)  # stands for what only others may write; root may all
    text = launched(PATH="/usr/bin:/bin", PACKLORE_DATA=str(data))
    said = text.splitlines()
    assert said[1].startswith("packlore: [Errno 21] Is a directory")
    assert said[2] == f"packlore: could not install into {data}; PACKLORE_DATA names another folder"
    assert "network" not in text


def test_a_part_that_a_cleaner_took_away_is_seen(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_install", lambda target: (target / "mcp").mkdir())
    launch.build(tmp_path)
    place = launch.place_for(tmp_path)
    assert launch._whole(place)
    (place / "mcp").rmdir()
    assert not launch._whole(place)
    launch.build(tmp_path)
    assert launch._whole(place)


def test_what_cannot_be_imported_is_not_ready(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that says it has installed, and has not: `pip install --dry-run`."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text("#!/bin/sh\nexit 0\n")
    (tools / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(launch.sys, "executable", str(tools / "uv"))  # pip does no more than uv
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(
        launch.subprocess, "check_call", _refusing(launch.TRY, subprocess.check_call)
    )
    with pytest.raises(subprocess.CalledProcessError):
        launch.build(tmp_path / "data")
    assert not launch.place_for(tmp_path / "data").exists()


def _refusing(code: str, call: Callable[..., int]) -> Callable[..., int]:
    def check_call(command: list[str], **options: object) -> int:
        if code in command:
            raise subprocess.CalledProcessError(1, command)
        return call(command, **options)

    return check_call


@pytest.mark.parametrize(
    "name", ["PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_ROOT", "PIP_TARGET", "UV_TARGET"]
)
def test_what_tells_pip_to_install_otherwise_is_left_out(launch: ModuleType, name: str) -> None:
    assert not launch._is_for_us(name)


@pytest.mark.parametrize(
    "name", ["PIP_INDEX_URL", "PIP_PROXY", "UV_INDEX_URL", "PATH", "PIPX_HOME"]
)
def test_where_packages_come_from_is_kept(launch: ModuleType, name: str) -> None:
    assert launch._is_for_us(name)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
def test_a_folder_into_which_others_may_write_is_refused(
    launch: ModuleType, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write to .*shared"):
        launch.packages(shared / "data")
    shared.chmod(0o1777)  # as /tmp is
    place = launch.place_for(shared / "data")
    place.mkdir()
    (place / launch.READY).touch()
    assert launch.packages(shared / "data") == place
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write to"):
        launch.packages(shared / "data")
