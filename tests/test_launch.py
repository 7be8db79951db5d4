"""The launcher makes an environment once and leaves nothing half done. No network: a stand-in for
pip and uv records how it was called; the real installation is in tests/clients."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.proofs.harness import ROOT


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", ROOT / "server" / "launch.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_data_goes_where_it_is_told_or_to_the_cache(launch: ModuleType, tmp_path: Path) -> None:
    assert launch.data_folder({"PACKLORE_DATA": str(tmp_path)}) == tmp_path
    unfilled = {"PACKLORE_DATA": "${CLAUDE_PLUGIN_DATA}", "XDG_CACHE_HOME": str(tmp_path)}
    if sys.platform == "linux":
        assert launch.data_folder(unfilled) == tmp_path / "packlore"


def test_it_installs_once(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[Path] = []
    monkeypatch.setattr(launch, "_install", installed.append)
    first = launch.environment(tmp_path)
    assert launch.environment(tmp_path) == first
    assert len(installed) == 1
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_an_interrupted_start_is_not_taken_for_a_ready_one(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(target: Path) -> None:
        (target / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.environment(tmp_path)
    assert list(tmp_path.iterdir()) == []
    killed = tmp_path / "building-killed"
    killed.mkdir()
    os.utime(killed, (time.time() - 2 * launch.ABANDONED,) * 2)
    monkeypatch.setattr(launch, "_install", lambda target: None)
    place = launch.environment(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_of_two_starts_at_once_both_succeed(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(launch, "_install", lambda target: together.wait())
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(launch.environment(tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert set(found) == {found[0]}
    assert [path.name for path in tmp_path.iterdir()] == [found[0].name]


def test_an_update_of_the_pins_makes_a_new_environment(
    launch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_install", lambda target: None)
    first = launch.environment(tmp_path / "data")
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes() + b"# new\n")
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    assert launch.environment(tmp_path / "data") != first


def test_what_cannot_be_installed_is_told_on_stderr_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "launch.py")],
        env={"PATH": str(tmp_path / "bin"), "PACKLORE_DATA": "/dev/null/x", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "PACKLORE_DATA names another folder" in done.stderr
