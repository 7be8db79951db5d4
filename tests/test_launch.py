"""The launcher installs once and leaves nothing half done. No network: a stand-in does the
installation; the real one is in tests/clients. Whole first starts are in test_first_start.py."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from launcher import install, start
from launcher import place as places
from launcher.place import READY, complete, data_folder, place_for
from tests.proofs.harness import ROOT
from tests.services import serving_process


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """What a start holds as long as its process lives is given up after each test."""
    yield
    for each in start._held:
        each.close()
    start._held.clear()


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """The folder of an installation that is complete, and empty."""
    place: Path = place_for(tmp_path / "data")
    place.mkdir(parents=True)
    (place / READY).touch()
    return place


def test_data_goes_where_it_is_told_or_to_the_cache(tmp_path: Path) -> None:
    assert data_folder({"PACKLORE_DATA": str(tmp_path)}) == tmp_path
    assert data_folder({"PACKLORE_DATA": "~/x"}) == Path.home() / "x"
    assert data_folder({"PACKLORE_DATA": "x"}) == Path.cwd() / "x"
    unfilled = {"PACKLORE_DATA": "${CLAUDE_PLUGIN_DATA}", "XDG_CACHE_HOME": str(tmp_path)}
    if sys.platform == "linux":
        assert data_folder(unfilled) == tmp_path / "packlore"


def test_what_is_ready_is_taken_as_it_is(tmp_path: Path) -> None:
    place = place_for(tmp_path)
    place.mkdir()
    (place / READY).touch()
    assert start.packages(tmp_path) == place


def test_an_interrupted_installation_leaves_nothing_that_looks_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(target: Path) -> None:
        (target / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_no_start_uses_is_removed_in_time(tmp_path: Path) -> None:
    ages: dict[str, float] = {"building-old": 2 * install.ABANDONED, "building-new": 0}
    ages |= {"packages-old": 2 * install.UNUSED, "packages-new": install.UNUSED / 2}
    ages |= {"packages-broken": 2 * install.ABANDONED, "packages-breaking": 0}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        if name in ("packages-old", "packages-new"):
            (tmp_path / name / READY).touch()
            os.utime(tmp_path / name / READY, (time.time() - age,) * 2)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    install._clean(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"building-new", "packages-new", "packages-breaking"}


def test_packages_that_a_server_runs_on_are_not_removed_however_long_it_runs(ready: Path) -> None:
    """A server that was started months ago imports some of them only when it needs them."""
    data = ready.parent
    start.packages(data)
    os.utime(ready / READY, (0, 0))
    install._clean(data)
    assert whole(ready)
    for each in start._held:
        each.close()
    install._clean(data)
    assert not ready.exists()


def test_a_start_says_that_its_packages_are_in_use(ready: Path) -> None:
    os.utime(ready / READY, (0, 0))
    assert start.packages(ready.parent) == ready
    assert (ready / READY).stat().st_mtime > time.time() - 3600


def test_of_two_installations_at_once_the_second_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    made: list[Path] = []

    def wait(target: Path) -> None:
        made.append(target)
        begun.set()
        assert go.wait(20)

    monkeypatch.setattr(install, "_install", wait)
    threads = [threading.Thread(target=install.build, args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    time.sleep(0.1)  # the second has come to the lock, or comes later and finds the work done
    go.set()
    for thread in threads:
        thread.join()
    place = place_for(tmp_path)
    assert (place / READY).is_file()
    assert place.stat().st_mode & 0o777 == 0o755
    assert len(made) == 1
    assert {path.name for path in tmp_path.iterdir()} == {place.name, "lock"}


def test_packages_that_somebody_damaged_are_made_again(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ready / READY).unlink()
    (ready / "half").touch()
    monkeypatch.setattr(install, "_install", lambda target: (target / "whole").touch())
    install.build(ready.parent)
    assert {path.name for path in ready.iterdir()} == {READY, "whole"}


def test_an_update_of_the_lock_makes_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place_for(tmp_path)
    (tmp_path / "lock").write_bytes(places.LOCK.read_bytes() + b"# new\n")
    monkeypatch.setattr(places, "LOCK", tmp_path / "lock")
    assert place_for(tmp_path) != first


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
    shutil.copy(ROOT / "SKILL.md", skill)
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


def whole(place: Path) -> bool:
    found = complete(place)
    if found:
        found.close()
    return found is not None


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
    assert text.splitlines()[1].startswith("packlore: [Errno 2] No such file or directory: ")
    assert text.splitlines()[2] == "packlore: uv could not install"
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_install", lambda target: (target / "mcp").mkdir())
    install.build(tmp_path)
    place = place_for(tmp_path)
    assert whole(place)
    (place / "mcp").rmdir()
    assert not whole(place)
    install.build(tmp_path)
    assert whole(place)


@pytest.mark.parametrize(
    "name", ["PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_ROOT", "PIP_TARGET", "UV_TARGET"]
)
def test_what_tells_pip_to_install_otherwise_is_left_out(name: str) -> None:
    assert not install._is_for_us(name)


@pytest.mark.parametrize(
    "name", ["PIP_INDEX_URL", "PIP_PROXY", "UV_INDEX_URL", "PATH", "PIPX_HOME"]
)
def test_where_packages_come_from_is_kept(name: str) -> None:
    assert install._is_for_us(name)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
def test_a_folder_into_which_others_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write to .*shared"):
        start.packages(shared / "data")
    shared.chmod(0o1777)  # as /tmp is
    place = place_for(shared / "data")
    place.mkdir()
    (place / READY).touch()
    assert start.packages(shared / "data") == place
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write to"):
        start.packages(shared / "data")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users of POSIX")
def test_packages_of_another_user_are_refused_and_those_of_root_are_taken(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.pth` file that somebody has put there would run in each start."""
    real = Path.stat

    def owned_by(owner: int, me: int) -> None:
        def stat(self: Path, **_: object) -> os.stat_result:
            found = list(real(self))
            found[4] = owner if self.is_relative_to(ready) else me
            return os.stat_result(found)

        monkeypatch.setattr(Path, "stat", stat)
        monkeypatch.setattr(os, "getuid", lambda: me)

    owned_by(4711, me=4712)
    with pytest.raises(PermissionError, match=rf"others may write to {ready}, and so into this"):
        start.packages(ready.parent)
    owned_by(0, me=4712)
    assert start.packages(ready.parent) == ready
    owned_by(4712, me=4712)
    assert start.packages(ready.parent) == ready


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
def test_compiled_files_that_others_could_have_put_there_are_refused(tmp_path: Path) -> None:
    """Python runs them in place of the source that they say they were made from."""
    assert start.compiled_in(tmp_path) == tmp_path / "compiled"
    assert (tmp_path / "compiled").stat().st_mode & 0o022 == 0
    (tmp_path / "compiled").chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write to .*compiled"):
        start.compiled_in(tmp_path)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
def test_one_line_says_whose_folder_is_refused(ready: Path) -> None:
    ready.chmod(0o777)
    said = launched(PACKLORE_DATA=str(ready.parent), PATH="/usr/bin:/bin")
    assert said == (
        f"packlore: could not install: others may write to {ready}, and so into this program; "
        "PACKLORE_DATA names another folder\n"
    )


def test_a_data_folder_in_a_home_that_is_unknown_is_told_in_one_line(tmp_path: Path) -> None:
    said = launched(PACKLORE_DATA="~unknown-to-all/x", HOME=str(tmp_path), PATH="/usr/bin:/bin")
    assert said.startswith("packlore: could not install: Could not determine home directory")
    assert said.endswith("; PACKLORE_DATA names another folder\n")
    assert said.count("\n") == 1


def test_a_python_that_is_too_old_is_told_what_is_needed() -> None:
    """Also one that could not read the rest of the launcher."""
    code = "import runpy, sys; sys.version_info = (3, 9, 6, 'final', 0); "
    code += f"runpy.run_path({str(ROOT / 'server' / 'launch.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"packlore: needs Python 3.11 or later, and this is 3.9.6: {sys.executable}\n"
    )
    ast.parse((ROOT / "server" / "launch.py").read_text(), feature_version=(3, 7))


@pytest.mark.parametrize("minor", range(6, 11))
def test_old_pythons_that_are_here_are_told_too(minor: int) -> None:
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    old = next(iter(versions.glob(f"3.{minor}.*/bin/python3")), shutil.which(f"python3.{minor}"))
    if old is None:
        pytest.skip(f"no Python 3.{minor} under pyenv or on PATH: the test before stands for it")
    done = subprocess.run(
        [old, ROOT / "server" / "launch.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"packlore: needs Python 3.11 or later, and this is 3.{minor}.")
    assert done.stderr.count("\n") == 1
