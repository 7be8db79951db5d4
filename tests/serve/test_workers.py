"""Workers that end are replaced: one that served at once, those that cannot start after pauses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from uvicorn import Config

from packlore.serve import workers
from packlore.serve.run import STARTUP_FAILED
from packlore.serve.workers import ATTEMPTS, LIVED, LONGEST, Place, Workers
from tests.packs import own
from tests.serve.test_http import serving
from tests.services import Program


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Child:
    """A process that is alive until it is told to end."""

    started = 0

    def __init__(self, *_: Any) -> None:
        self.alive = self.answers = True

    @property
    def exitcode(self) -> int | None:
        return None if self.alive else STARTUP_FAILED

    def start(self) -> None:
        Child.started += 1

    def is_alive(self, timeout: float) -> bool:
        assert timeout > 0
        return self.alive and self.answers

    def kill(self) -> None:
        self.alive = False

    def join(self) -> None:
        assert not self.alive


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(workers, "time", made)
    monkeypatch.setattr(workers, "Process", Child)
    monkeypatch.setattr(Child, "started", 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(workers, "say", lines.append)
    return lines


@pytest.fixture
def parent(clock: Clock, said: list[str]) -> Workers:
    made = Workers(Config("x:y", workers=2), [])
    made.processes = [Child(), Child()]  # type: ignore[list-item]
    made.keep_subprocess_alive()
    return made


def fail(parent: Workers, number: int) -> None:
    """The worker in this place ends, if there is one."""
    parent.processes[number].kill()


def test_one_that_has_served_is_replaced_at_once(
    parent: Workers, clock: Clock, said: list[str]
) -> None:
    for each in range(1, 10):
        clock.now += LIVED + 1
        fail(parent, 0)
        parent.keep_subprocess_alive()
        assert Child.started == each
    assert set(said) == {"packlore: a worker has ended (exit code 3): the next one starts now"}
    assert not parent.should_exit.is_set()


def test_those_that_end_early_are_replaced_after_pauses_that_double(
    parent: Workers, clock: Clock, said: list[str]
) -> None:
    starts: list[float] = []
    for _ in range(4 * 300):  # 300 seconds
        before = Child.started
        parent.keep_subprocess_alive()
        if Child.started > before:
            starts.append(clock.now)
        clock.now += 0.25
        fail(parent, 0)
    gaps = [round(after - before) for before, after in pairwise(starts)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(said) == len(starts) + 1
    assert not parent.should_exit.is_set()  # the other one serves


def test_the_pause_is_bounded_however_often_it_was_tried() -> None:
    place = Place(None, 0.0, early=5_000)  # type: ignore[arg-type]
    assert place.ended(1.0) == LONGEST


def test_where_none_can_start_the_parent_ends(
    parent: Workers, clock: Clock, said: list[str]
) -> None:
    for _ in range(4 * 60):
        for number in (0, 1):
            fail(parent, number)
        parent.keep_subprocess_alive()
        clock.now += 0.25
    assert parent.should_exit.is_set()
    assert parent.gave_up
    assert Child.started == 2 * (ATTEMPTS - 1)
    assert said[-1] == "packlore: no worker could start: the server ends"
    assert said.count(said[-1]) == 1


def test_one_that_hangs_is_replaced_but_one_that_is_still_starting_is_not(
    parent: Workers, clock: Clock
) -> None:
    hanging: Any = parent.processes[0]
    hanging.answers = False
    clock.now += LIVED - 1
    parent.keep_subprocess_alive()
    assert hanging.alive
    clock.now += 2
    parent.keep_subprocess_alive()
    assert not hanging.alive
    assert parent.processes[0] is not hanging


def test_what_sighup_has_put_there_is_not_replaced(parent: Workers, clock: Clock) -> None:
    """uvicorn exchanges the process of a place by itself, also while it waits for its next one."""
    for _ in range(3):
        fail(parent, 0)
        parent.keep_subprocess_alive()
        clock.now += 0.1
    fresh: Any = Child()
    parent.processes[0] = fresh
    for _ in range(40):
        parent.keep_subprocess_alive()
        clock.now += 0.25
    assert parent.processes[0] is fresh


def children(program: Program) -> list[int]:
    """The processes of the workers, the oldest first."""
    path = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
    return [
        int(each)
        for each in path.read_text().split()
        if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_pack_that_is_deleted_stops_no_worker_that_has_read_it(tmp_path: Path) -> None:
    folder, away = own(tmp_path / "pack"), tmp_path / "away"
    with serving(folder, "--workers", "2") as program:
        first, second = children(program)
        os.kill(first, signal.SIGKILL)
        until(lambda: len({*children(program)} - {first, second}) == 1)
        (third,) = {*children(program)} - {first, second}
        os.kill(third, signal.SIGSTOP)
        assert httpx.get(f"{program.url}/health", timeout=60).status_code == 200
        folder.rename(away)  # the second has read it, for it has answered
        os.kill(third, signal.SIGKILL)
        until(lambda: "the next one starts in 2 s" in program.output())
        assert httpx.get(f"{program.url}/health", timeout=60).status_code == 200
        away.rename(folder)
        until(lambda: len(children(program)) == 2)
        assert second in children(program)
        told = program.output()
        assert "Traceback" not in told
        assert re.findall(r"a worker cannot start: (.*)", told) == [
            f"no folder at {folder}: give the folder that holds SKILL.md or rules/"
        ]
        assert program.terminate(60) in (0, -signal.SIGTERM)


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_pack_that_is_deleted_is_no_endless_loop(tmp_path: Path) -> None:
    folder = own(tmp_path / "pack")
    with serving(folder, "--workers", "2") as program:
        workers = children(program)
        shutil.rmtree(folder)
        for each in workers:
            os.kill(each, signal.SIGKILL)
        assert program.process.wait(200) == STARTUP_FAILED
        lines = program.output().splitlines()
        ended = [line for line in lines if "a worker has ended" in line]
        assert len(ended) < 2 * ATTEMPTS + 2
        cannot = [line for line in lines if "a worker cannot start: " in line]
        assert len(cannot) < 2 * ATTEMPTS + 2
        assert all(str(folder) in line for line in cannot)
        assert lines[-1] == "packlore: no worker could start: the server ends"
        assert "Traceback" not in program.output()
