"""Which files of a project are read, from which folder up to which, and what is passed over."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from packlore.project import LOCKS, folder
from packlore.project.folder import Project
from packlore.project.locks import Known
from packlore.project.versions import shown
from tests.packs import write
from tests.project import files

TEXTS: dict[str, str] = {
    "uv.lock": files.UV,
    "poetry.lock": files.POETRY_2,
    "pdm.lock": files.PDM,
    "pylock.toml": files.PYLOCK,
    "Pipfile.lock": files.PIPENV,
    "requirements.txt": files.PIP_COMPILE,
}
ASKS = '[project]\nname = "app"\nrequires-python = ">=3.10"\ndependencies = ["sqlalchemy>=1.3"]\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in somebody's home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    made = tmp_path / "home" / "repo"
    (made / ".git").mkdir(parents=True)
    return made


def lock(version: str, name: str = "sqlalchemy") -> str:
    return f'[[package]]\nname = "{name}"\nversion = "{version}"\n'


def known(place: Path, name: str = "sqlalchemy") -> Known | None:
    return Project(place).known([name]).get(name)


def test_each_lock_has_a_text_here() -> None:
    assert set(TEXTS) == {*LOCKS, "requirements.txt"}


@pytest.mark.parametrize("name", TEXTS)
def test_the_file_of_each_tool_is_read(root: Path, name: str) -> None:
    write(root, {name: TEXTS[name]})
    assert known(root) == Known(name, ("1.4.52",))
    assert known(root, "none") is None


def test_of_several_locks_the_first_counts(root: Path) -> None:
    for number, name in enumerate(reversed(LOCKS)):
        if name != "Pipfile.lock":
            write(root, {name: lock(f"2.0.{number}")})
            assert known(root) == Known(name, (f"2.0.{number}",))


def test_the_nearest_folder_counts_up_to_the_root_of_the_repository(root: Path) -> None:
    deep = root / "services" / "api"
    deep.mkdir(parents=True)
    write(root.parent, {"uv.lock": lock("1.0")})
    assert known(deep) is None
    write(root, {"uv.lock": lock("2.0")})
    assert known(deep) == Known("uv.lock", ("2.0",))
    write(deep, {"pyproject.toml": ASKS})
    assert known(deep) == Known("uv.lock", ("2.0",)), "what is asked for is no lock"
    write(deep, {"requirements.txt": "sqlalchemy==2.1\n"})
    assert known(deep) == Known("requirements.txt", ("2.1",))


def test_without_a_repository_the_home_is_the_last_folder(root: Path) -> None:
    (root / ".git").rmdir()
    write(root.parents[1], {"uv.lock": lock("1.0")})
    assert known(root) is None
    write(root.parent, {"uv.lock": lock("2.0")})
    assert known(root) == Known("uv.lock", ("2.0",))


def test_a_folder_in_no_repository_and_no_home_is_looked_at_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "elsewhere")
    own = tmp_path / "a" / "b"
    own.mkdir(parents=True)
    write(own.parent, {"uv.lock": lock("1.0")})
    assert known(own) is None
    assert known(own.parent) == Known("uv.lock", ("1.0",))


def test_who_has_no_home_has_a_project_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    write(root, {"uv.lock": lock("2.0")})
    assert known(root) == Known("uv.lock", ("2.0",))


def test_requirements_in_several_files_are_one(root: Path) -> None:
    write(
        root,
        {
            "requirements-dev.txt": "sqlalchemy==9\nlion==1\n",
            "requirements.txt": "sqlalchemy==2.0\ntiger>=1\n",
            "requirements/base.txt": "bear==3\ntiger==2\n",
            "requirements\x1b[2J.txt": "cat==1\n",
            "requirements ignore all rules.txt": "cat==1\n",
            "other.txt": "cat==1\n",
        },
    )
    assert known(root) == Known("requirements.txt", ("2.0",))
    assert known(root, "lion") == Known("requirements-dev.txt", ("1",))
    assert known(root, "bear") == Known("requirements/base.txt", ("3",))
    assert known(root, "tiger") == Known("requirements/base.txt", ("2",)), "a pin before a range"
    assert known(root, "cat") is None


def test_without_a_lock_it_is_known_what_is_asked_for(root: Path) -> None:
    write(root, {"pyproject.toml": ASKS, "requirements.txt": "zebra<3\nsqlalchemy>9\n"})
    found = Project(root).known(["sqlalchemy", "zebra", "python"])
    assert {name: (each.file, shown(each.asked[0])) for name, each in found.items()} == {
        "sqlalchemy": ("pyproject.toml", ">=1.3"),
        "zebra": ("requirements.txt", "<3"),
        "python": ("pyproject.toml", ">=3.10"),
    }


def test_what_a_lock_has_not_is_not_asked_of_the_project(root: Path) -> None:
    write(root, {"pyproject.toml": ASKS, "uv.lock": lock("1", "zebra")})
    assert known(root) is None


def test_the_version_of_python_goes_before_what_is_asked_for(root: Path) -> None:
    write(root, {"pyproject.toml": ASKS, "uv.lock": files.UV, "app/pyproject.toml": ASKS})
    assert Project(root).known(["python"])["python"].file == "pyproject.toml"
    write(root, {".python-version": "3.12\n"})
    assert Project(root / "app").known(["python"]) == {
        "python": Known(".python-version", ("3.12",))
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"[[package]]\nname = \xff\nversion = '1'\n",
        b"\0" * 100,
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"default": ' * 20_000,
        b"[project]\nx = " + b"9" * 10_000,
        b"a." * 100_000 + b"b = 1",
        lock("1").encode() + b"#" * folder.MAX_LOCK,
    ],
)
@pytest.mark.parametrize("name", [*TEXTS, "pyproject.toml", ".python-version"])
def test_a_broken_or_a_huge_file_is_passed_over(root: Path, name: str, data: bytes) -> None:
    other = "poetry.lock" if name == "uv.lock" else "uv.lock"
    write(root, {name: data, other: lock("2.0")})
    assert known(root) == Known(other, ("2.0",))
    assert Project(root).known(["python"]) == {}
    (root / other).unlink()
    assert known(root) is None


def test_a_byte_order_mark_is_no_part_of_a_text(root: Path) -> None:
    write(root, {"requirements.txt": b"\xef\xbb\xbfsqlalchemy==2.0\r\n"})
    assert known(root) == Known("requirements.txt", ("2.0",))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_no_link_out_of_the_project_is_followed(root: Path) -> None:
    outside = write(
        root.parent / "other", {"uv.lock": lock("6.6.6"), "base.txt": "sqlalchemy==6.6"}
    )
    (root / "uv.lock").symlink_to(outside / "uv.lock")
    (root / "pdm.lock").symlink_to("pdm.lock")
    (root / "requirements").symlink_to(outside)
    (root / "poetry.lock").symlink_to("nowhere")
    assert known(root) is None
    write(root, {"locks/uv.lock": lock("2.0")})
    (root / "uv.lock").unlink()
    (root / "uv.lock").symlink_to("locks/uv.lock")
    assert known(root) == Known("uv.lock", ("2.0",))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_and_a_folder_in_place_of_a_file_are_passed_over(root: Path) -> None:
    for name in (*LOCKS, "requirements.txt", ".python-version"):
        os.mkfifo(root / name)
    (root / "pyproject.toml").mkdir()
    asked = threading.Thread(target=known, args=(root,), daemon=True)  # it would wait for ever
    asked.start()
    asked.join(20)
    assert not asked.is_alive()
    assert Project(root).known(["sqlalchemy", "python"]) == {}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_passed_over(root: Path) -> None:
    write(root, {"uv.lock": lock("2.0")})
    (root / "uv.lock").chmod(0)
    assert known(root) is None


def test_a_folder_that_is_gone_has_no_project(root: Path) -> None:
    assert known(root / "gone") is None


def test_a_file_is_read_again_only_where_it_has_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = Path.open

    def counted(self: Path, *args: str, **more: str) -> object:
        opened.append(self)
        return real(self, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counted)
    write(root, {"uv.lock": lock("2.0")})
    opened.clear()
    project = Project(root)
    for _ in range(5):
        assert project.known(["sqlalchemy"])["sqlalchemy"].versions == ("2.0",)
    assert opened == [root / "uv.lock"]
    write(root, {"Pipfile.lock": "[" * 100_000, "uv.lock": ""})
    opened.clear()
    for _ in range(5):
        assert project.known(["sqlalchemy"]) == {}
    assert opened == [root / "uv.lock", root / "Pipfile.lock"], "a broken file, too, once"
    write(root, {"uv.lock": lock("2.1")})
    os.utime(root / "uv.lock", (1, 1))
    assert project.known(["sqlalchemy"])["sqlalchemy"].versions == ("2.1",)
    write(root, {"uv.lock": ""})
    assert project.known(["sqlalchemy"]) == {}
