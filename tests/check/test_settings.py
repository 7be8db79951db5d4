"""What a project says of checking."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from packlore.check import Level, baseline, settings
from packlore.check.sources import Source, read
from packlore.errors import BadArgumentError
from tests.packs import write


def test_the_nearest_file_says_it_all(tmp_path: Path) -> None:
    text = (
        "[tool.packlore]\nmin-level = 'warning'\nselect = ['a']\nignore = ['b']\n"
        "exclude = ['legacy/**']\nbaseline = 'known.json'\n"
    )
    write(
        tmp_path,
        {"pyproject.toml": "[tool.packlore]\nmin-level = 'hint'\n", "in/pyproject.toml": text},
    )
    (tmp_path / "in/app").mkdir()
    found = settings.load(tmp_path / "in/app")
    assert found == settings.Settings(
        tmp_path / "in", Level.WARNING, ("a",), ("b",), ("legacy/**",), "known.json"
    )


def test_a_folder_without_one_has_none_and_no_search_leaves_a_repository(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "[tool.packlore]\nmin-level = 'hint'\n", "in/.git/x": ""})
    assert settings.load(tmp_path / "in") == settings.Settings(tmp_path / "in")
    write(tmp_path, {"in/pyproject.toml": "[project]\nname = 'x'\n"})
    assert settings.load(tmp_path / "in") == settings.Settings(tmp_path / "in")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.packlore]\nmin_level = 'hint'", "has no 'min_level': it takes min-level, select"),
        ("[tool.packlore]\nmin-level = 'all'", "is none of hint, warning, error"),
        ("[tool.packlore]\nselect = 'a'", "is no list of texts"),
        ("[tool.packlore]\nbaseline = 5", "is no path"),
        ("[tool]\npacklore = 5", "is no table"),
        ("[tool.packlore", "cannot be read"),
    ],
)
def test_a_name_or_value_that_is_none_is_told(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, {"pyproject.toml": text})
    with pytest.raises(BadArgumentError, match=r"pyproject\.toml") as raised:
        settings.load(tmp_path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x" * 140_000, "cannot be read: over 131,072 bytes"),
        (".".join(["a"] * 50_000) + " = 1 # packlore", "cannot be read: a line has over 500 dots"),
        ("x = " + "[" * 9_999 + "# packlore", "cannot be read: "),
        (f"[tool.packlore]\nexclude = ['{'x' * 201}']", "one of over 200 characters"),
        (f"[tool.packlore]\nexclude = {['x'] * 201}", "over 200 texts"),
        ("[tool.packlore]\nbaseline = '/dev/zero'", "is not below its folder"),
        ('[tool.packlore]\nbaseline = "a\\u0000"', "is not below its folder"),
        ("[tool.packlore]\nmin-level = 0x" + "f" * 9_999, "is none of hint, warning, error"),
        (f"[tool.packlore]\n{'x' * 9_999} = 1", "has no 'xxx"),
        ("[tool.packlore]\nbaseline = '../known.json'", "is not below its folder"),
        ("[tool.packlore]\nbaseline = 'link.json'", "is not below its folder"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    folder = write(tmp_path / "in", {"pyproject.toml": text})
    if os.name != "nt":
        (folder / "link.json").symlink_to(os.devnull)
    start = time.thread_time()
    with pytest.raises(BadArgumentError, match=r"pyproject\.toml") as raised:
        settings.load(folder)
    assert said in str(raised.value) or os.name == "nt"
    assert len(str(raised.value)) < 600
    assert time.thread_time() - start < 5


@pytest.mark.parametrize("parts", [10, 100, 400])
def test_long_names_cost_no_more_than_their_text(tmp_path: Path, parts: int) -> None:
    """A table of that many parts, and names in it until the file is full."""

    def spent(size: int) -> float:
        rows = f"[tool.packlore]\n[{'.'.join(['a'] * parts)}]\n"
        rows += "".join(f"b{n} = 1\n" for n in range((size - len(rows)) // 11))
        write(tmp_path, {"pyproject.toml": rows})
        start = time.thread_time()
        settings.load(tmp_path)
        return time.thread_time() - start

    assert spent(settings.MAX_FILE) < 24 * max(spent(settings.MAX_FILE // 8), 0.002)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_file_without_an_end_is_read_to_its_limit_only(tmp_path: Path) -> None:
    """`/proc/self/pagemap` is a regular file that says that it is empty."""
    endless = Path("/proc/self/pagemap")
    if not endless.exists():
        pytest.skip("there is none")
    (tmp_path / "pyproject.toml").symlink_to(endless)
    with pytest.raises(BadArgumentError, match="over 131,072 bytes"):
        settings.load(tmp_path)
    with pytest.raises(BadArgumentError, match=r"\[Errno 27\] over 33,554,432 bytes"):
        baseline.load(endless)
    trouble = read(Source(endless, "a.py"))
    assert str(trouble) == "a.py: not checked: over 524,288 bytes"
    os.mkfifo(tmp_path / "known.json")
    with pytest.raises(BadArgumentError, match="not a regular file"):
        baseline.load(tmp_path / "known.json")
