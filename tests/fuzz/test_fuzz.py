"""The fuzzer ends by itself, says what it did, and keeps what it finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.run import Outcome, Target, run
from tests.fuzz.targets import TARGETS
from tests.proofs.harness import ROOT


def broken(text: str) -> None:
    if "\u202e" in text:
        raise ValueError("a place of its own")


TEXTS = st.lists(st.sampled_from(("a", "b", "\u202e")), min_size=20, max_size=40).map("".join)
PLANTED = {"sound": Target.of(TEXTS, lambda _: None), "planted": Target.of(TEXTS, broken)}


def tried(folder: Path, seed: int) -> Outcome:
    return run(PLANTED, seconds=0, chosen=seed, folder=folder)


@pytest.mark.timeout(400)
def test_two_seconds_of_it_try_every_target_and_find_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "2", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)  # noqa: T201 its seed
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rows = done.stdout.splitlines()
    assert first.startswith("seed ")
    assert str(tmp_path) in first
    counts = {row[:12].strip(): int(row[12:].split()[0]) for row in rows[: len(TARGETS)]}
    assert set(counts) == set(TARGETS)
    assert min(counts.values()) > 0
    assert list(tmp_path.glob("*.txt")) == []


def test_a_planted_fault_is_found_once_and_kept_small(tmp_path: Path) -> None:
    outcome = tried(tmp_path, 1)
    (finding,) = outcome.findings
    assert finding.target == "planted"
    assert finding.value.count("u202e") == 1, "the smallest that breaks it"
    (kept,) = tmp_path.glob("planted-*.txt")
    text = kept.read_text(encoding="utf-8")
    assert text.startswith("seed 1\nplanted: ValueError at ")
    assert finding.value in text
    assert "a place of its own" in text


def test_what_was_found_is_tried_first_the_next_time(tmp_path: Path) -> None:
    tried(tmp_path, 1)
    assert tried(tmp_path, 2).tried["planted"] == 1


def test_one_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    def given(seed: int) -> list[str]:
        seen: list[str] = []
        target = {"seen": Target.of(TEXTS, seen.append)}
        run(target, seconds=0, chosen=seed, folder=tmp_path / str(seed))
        return seen

    assert given(1) == given(1) != given(2)
