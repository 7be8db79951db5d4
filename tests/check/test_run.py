"""Many files on all cores: one that fails costs no other, and the order is that of the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from packlore.check import Detectors, run
from packlore.check.model import Checked
from packlore.check.run import FEW
from packlore.check.sources import Source
from tests.check.test_scan import SLEEP
from tests.packs import write


def files(folder: Path, number: int) -> list[Source]:
    write(folder, {f"{n}.py": f"{'#' * n}\ntime.sleep({n})\n" for n in range(number)})
    return [Source(folder / f"{n}.py", f"{n}.py") for n in range(number)]


def test_many_files_are_seen_in_their_order(tmp_path: Path) -> None:
    given = files(tmp_path, FEW * 3)
    (tmp_path / "5.py").write_bytes(b"\xff")
    (tmp_path / "6.py").unlink()
    found = list(run.check(given, Detectors((SLEEP,))))
    assert [each.path for each in found] == [each.path for each in given]
    assert [each.path for each in found if each.trouble] == ["5.py", "6.py"]
    assert sum(len(each.findings) for each in found) == len(given) - 2


def _dies_of_some(files: Sequence[Source]) -> list[Checked]:
    if any(each.path in ("20.py", "70.py") for each in files):
        os._exit(1)
    return [run.one(each, Detectors((SLEEP,))) for each in files]


def test_a_file_that_ends_its_process_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_some", _dies_of_some)
    monkeypatch.setattr(run, "CHUNK", 2)
    given = files(tmp_path, FEW + 20)
    found = list(run.check(given, Detectors((SLEEP,))))
    assert [each.path for each in found] == [each.path for each in given]
    assert [each.path for each in found if each.trouble] == ["20.py", "70.py"]


def test_a_file_on_which_our_own_code_stumbles_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: object) -> Checked:
        raise ValueError("two\nlines")

    monkeypatch.setattr(run, "scan", stumbles)
    (found,) = run.check(files(tmp_path, 1), Detectors((SLEEP,)))
    assert str(found.trouble) == "0.py: not checked: ValueError: two lines"
