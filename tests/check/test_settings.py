"""What a project says of checking."""

from __future__ import annotations

from pathlib import Path

import pytest

from packlore.check import Level, settings
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
