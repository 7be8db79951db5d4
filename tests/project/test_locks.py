"""Each tool's file, by hand in its own form, and what is said there of two packages."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packlore.project import locks
from packlore.project.locks import Known, Packages
from packlore.project.versions import shown
from tests.project import files

Parse = Callable[[str, str], Packages]
PARSERS: tuple[Parse, ...] = (
    locks.toml,
    locks.pipenv,
    locks.requirements,
    locks.project,
    locks.python,
)


@pytest.mark.parametrize("text", [files.POETRY_1, files.POETRY_2, files.PDM, files.PYLOCK])
def test_a_lock_in_toml(text: str) -> None:
    assert locks.toml(text, "a.lock") == {
        "sqlalchemy": Known("a.lock", ("1.4.52",)),
        "zebra": Known("a.lock", ("2.0",)),
    }


def test_a_lock_of_uv_may_have_two_versions_of_a_package() -> None:
    assert locks.toml(files.UV, "uv.lock") == {
        "app": Known("uv.lock", ("0.1.0",)),
        "sqlalchemy": Known("uv.lock", ("1.4.52",)),
        "zebra": Known("uv.lock", ("1.0", "2.0")),
    }


@pytest.mark.parametrize(
    "text", [files.UV, files.POETRY_1, files.POETRY_2, files.PDM, files.PYLOCK]
)
def test_line_by_line_the_same_is_read_as_by_tomllib(text: str) -> None:
    tables = tomllib.loads(text)
    expected: dict[str, list[str]] = {}
    for each in tables.get("package") or tables["packages"]:
        expected.setdefault(each["name"].lower(), []).append(each["version"])
    for given_ in (text, text.replace("\n", "\r\n")):
        found = locks.toml(given_, "a")
        assert {name: list(known.versions) for name, known in found.items()} == expected


def test_the_name_and_the_version_of_another_table_are_those_of_no_package() -> None:
    other = '[[metadata.source]]\nname = "zebra"\nversion = "1"\n'
    assert locks.toml(other, "f") == {}
    nameless = '[[package]]\nname = "zebra"\n\n[[package]]\nversion = "1"\n'
    assert locks.toml(nameless, "f") == {}
    assert locks.toml(f'[[package]]\nname = "lion"\n{other}', "f") == {}


@pytest.mark.parametrize("text", [files.PIP_COMPILE, files.UV_EXPORT, files.FREEZE])
def test_pinned_requirements(text: str) -> None:
    for given_ in (text, text.replace("\n", "\r\n")):
        found = locks.requirements(given_, "requirements.txt")
        assert found == {
            "sqlalchemy": Known("requirements.txt", ("1.4.52",)),
            "zebra": Known("requirements.txt", ("2.0",)),
        }


def test_a_lock_of_pipenv() -> None:
    found = locks.pipenv(files.PIPENV, "Pipfile.lock")
    assert {name: each.versions for name, each in found.items()} == {
        "sqlalchemy": ("1.4.52",),
        "zebra": ("2.0",),
    }


def test_requirements_by_hand_ask_and_pin() -> None:
    text = (
        "-r base.txt\nFast_API >= 0.100, < 1  # web\nzebra (>=1)\nlion==2.0.*\n"
        "tiger==1.0 ; python_version < '3.13'\ntiger===1.1 ; python_version >= '3.13'\nnone\n"
    )
    found = locks.requirements(text, "r")
    assert {name: [shown(each) for each in known.asked] for name, known in found.items()} == {
        "fast-api": [">=0.100,<1"],
        "zebra": [">=1"],
        "lion": ["==2.0.*"],
        "tiger": [],
    }
    assert found["tiger"].versions == ("1.0", "1.1")


PROJECT = """\
[project]
name = "app"
requires-python = ">=3.10"
dependencies = ["SQLAlchemy[asyncio]>=1.4,<3", "zebra; sys_platform == 'win32'", "lion<2"]

[project.optional-dependencies]
extra = ["tiger~=1.2"]

[dependency-groups]
dev = ["bear==1.0", { include-group = "lint" }]
lint = []
"""
POETRY = """\
[tool.poetry.dependencies]
python = "^3.10"
sqlalchemy = { version = "^1.4", extras = ["asyncio"] }
lion = "<2"
tiger = "~1.2"
local = { path = "../local" }
any = "*"

[tool.poetry.group.dev.dependencies]
bear = "1.0"
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROJECT, ["==1.0", "<2", ">=3.10", ">=1.4,<3", "~=1.2"]),
        (POETRY, ["==1.0", "<2", "^3.10", "^1.4", "~1.2"]),
    ],
)
def test_what_a_project_asks_for(text: str, expected: list[str]) -> None:
    found = locks.project(text, "pyproject.toml")
    assert sorted(found) == ["bear", "lion", "python", "sqlalchemy", "tiger"]
    assert [shown(found[name].asked[0]) for name in sorted(found)] == expected


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.11\n", "3.11"),
        ("# mine\n3.12.4\n3.11.9\n", "3.12.4"),
        ("cpython-3.13\n", "3.13"),
        ("3.15.0rc1", "3.15.0rc1"),
    ],
)
def test_the_python_of_a_folder(text: str, version: str) -> None:
    assert locks.python(text, "f") == {"python": Known("f", (version,))}


@pytest.mark.parametrize("text", ["", "3", "system", "pypy3.10", "3.13t", "miniconda3-4.7"])
def test_a_python_that_is_none_of_ours_is_not_known(text: str) -> None:
    assert locks.python(text, "f") == {}


@pytest.mark.parametrize("text", ["a" * 90, "a\x1b[2J", "a b", "é", "../a", "", "-a"])
def test_a_name_that_is_none_is_left_out(text: str) -> None:
    assert locks.toml(f'[[package]]\nname = "{text}"\nversion = "1"\n', "f") == {}
    assert locks.pipenv(json.dumps({"default": {text: {"version": "==1"}}}), "f") == {}


@pytest.mark.parametrize(
    "text", ["1\x1b[2J", "x", "", "1." * 30 + "1", "1 obey me", "1+" + "a" * 39]
)
def test_a_version_that_is_none_is_left_out(text: str) -> None:
    assert locks.toml(f'[[package]]\nname = "a"\nversion = "{text}"\n', "f") == {}
    assert locks.pipenv(json.dumps({"default": {"a": {"version": f"=={text}"}}}), "f") == {}
    assert locks.requirements(f"a=={text}\n", "f").get("a", Known("f")).versions in ((), ("1",))


PIECES = st.sampled_from(
    [
        *files.UV.split("\n")[:30],
        *files.PIP_COMPILE.split("\n"),
        *PROJECT.split("\n"),
        *POETRY.split("\n"),
        '{"default": {"a": 1}}',
        "[[package]]",
        'version = "',
        "\\",
        "\0",
        "[" * 2000,
        "\x1b",
        "[]",
        "1",
    ]
)


@pytest.mark.parametrize("parse", PARSERS)
@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=12).map("\n".join)))
def test_whatever_a_file_holds_is_read_or_refused(parse: Parse, text: str) -> None:
    with suppress(ValueError, RecursionError):  # folder.py takes both for no file
        for name, known in parse(text, "f").items():
            assert name.isascii()
            assert all(len(each) <= locks.MAX_VERSION for each in known.versions)
            assert all(shown(each).isprintable() for each in known.asked)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "1",
        "null",
        '{"default": [1]}',
        '{"default": {"a": 1}}',
        '{"default": {"a": {"version": 1}}}',
    ],
)
def test_json_of_another_form_says_nothing(text: str) -> None:
    assert locks.pipenv(text, "f") == {}


@pytest.mark.parametrize(
    "text",
    [
        "project = 1",
        "[project]\ndependencies = 1\nrequires-python = 1",
        "[project]\ndependencies = [1, [], {}]",
        "[project]\noptional-dependencies = [1]",
        "dependency-groups = 1\ntool = 1",
        "[tool.poetry]\ndependencies = 1\ngroup = {a = 1}",
    ],
)
def test_toml_of_another_form_says_nothing(text: str) -> None:
    assert locks.project(text, "f") == {}


def test_a_key_of_many_parts_is_refused_at_once() -> None:
    """`tomllib` would take minutes for it."""
    for part in ("a.", '"\u2028".', "'\x85' . "):
        with pytest.raises(ValueError, match=r"^$"):
            locks.project(part * 50_000 + "b = 1\n", "f")
