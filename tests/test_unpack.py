"""`scripts/unpack.py` lays a program out so that it runs with its own libraries alone."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.proofs.harness import ROOT

SCRIPT = ROOT / "scripts" / "unpack.py"
LOADER = next(Path("/").glob("lib*/ld-linux-*.so.*"), None)


@pytest.fixture(scope="module")
def unpack() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def _tree(root: Path, source: str, place: str) -> Path:
    """What packages hold: a program, its libraries and a loader, in the folders of Debian."""
    program = shutil.which(source, path="/usr/bin:/bin")
    if LOADER is None or program is None:
        pytest.skip("only Linux with glibc has what Debian's packages hold")
    told = subprocess.run([LOADER, "--list", program], capture_output=True, text=True, check=True)
    for folder in (Path(place).parent, "lib64", "usr/lib/any-linux-gnu"):
        (root / folder).mkdir(parents=True)
    shutil.copy(program, root / place)
    shutil.copy(LOADER, root / "lib64")
    for library in re.findall(r" => (\S+) \(0x", told.stdout):
        shutil.copy(library, root / "usr" / "lib" / "any-linux-gnu")
    (root / "usr" / "lib" / "any-linux-gnu" / "libunused.so.1").touch()
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return _tree(tmp_path / "root", "true", "usr/sbin/pooler")


@pytest.fixture
def python(unpack: dict[str, Any], tmp_path: Path) -> Path:
    """What is laid of a Python, with bash in its place: it too tells by which name it was called."""
    root, new = _tree(tmp_path / "root", "bash", "usr/bin/python3.99"), tmp_path / "new"
    library, wheels = root / "usr/lib/python3.99", root / "usr/share/python-wheels"
    library.mkdir()
    (library / "os.py").touch()
    (library / "sitecustomize.py").symlink_to("/etc/python3.99/sitecustomize.py")
    (library / "_sysconfigdata__x.py").write_text("{'WHEEL_PKG_DIR': '/usr/share/python-wheels/'}")
    (library / "_sysconfigdata_x.py").symlink_to("_sysconfigdata__x.py")
    wheels.mkdir(parents=True)
    (wheels / "pip.whl").touch()
    place = tmp_path / "servers of mine" / "python3.99-sid"
    unpack["lay_python"](root, "python3.99", new, place)
    place.parent.mkdir()
    shutil.move(new, place)
    return place


def test_a_program_runs_from_its_folder_with_no_library_but_those_beside_it(
    unpack: dict[str, Any], tree: Path, tmp_path: Path
) -> None:
    place = tmp_path / "servers" / "pooler-trixie"
    unpack["lay"](tree, "pooler", place)
    shutil.rmtree(tree)
    names = {path.name for path in place.iterdir()}
    assert {"pooler", "loader", "libc.so.6"} <= names
    assert "libunused.so.1" not in names
    start: list[str | Path] = [place / "loader", "--library-path", place]
    listed = subprocess.run(
        [*start, "--list", place / "pooler"], capture_output=True, text=True, check=True
    )
    used = {Path(path).parent for path in re.findall(r" => (\S+) \(0x", listed.stdout)}
    assert used <= {place, LOADER.parent if LOADER else place}
    subprocess.run([*start, place / "pooler"], check=True)


def test_each_program_is_asked_for_its_version_in_its_own_way(
    unpack: dict[str, Any], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    run = unpack["run"]

    def note(*command: str | Path) -> str:
        asked.append(command[-1])
        told: str = run(*command)
        return told

    monkeypatch.setitem(unpack["lay"].__globals__, "run", note)
    for program in ("pooler", "nginx"):
        (tree / "usr" / "sbin" / "pooler").rename(tree / "usr" / "sbin" / program)
        unpack["lay"](tree, program, tmp_path / program)
        (tree / "usr" / "sbin" / program).rename(tree / "usr" / "sbin" / "pooler")
    assert [each for each in asked if str(each).startswith("-")] == ["--version", "-v"]


def test_a_tree_without_the_program_is_an_error(
    unpack: dict[str, Any], tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(unpack["UnpackError"], match="no bouncer"):
        unpack["lay"](tree, "bouncer", tmp_path / "servers")


def test_a_python_takes_the_script_that_starts_it_for_itself_even_by_a_link(
    python: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "environment"
    linked.symlink_to(python / "bin" / "python3")
    for program in (python / "bin" / "python3.99", linked):
        for arguments, said in (
            (["-c", "echo $0"], f"{program}\n"),
            (["-c", 'echo "$1"', "bash", "two  words"], "two  words\n"),
        ):
            command: list[str | Path] = [program, *arguments]
            told = subprocess.run(
                command, env={"PATH": ""}, capture_output=True, text=True, check=True
            )
            assert told.stdout == said


def test_a_python_has_its_library_and_finds_the_pip_beside_it(python: Path) -> None:
    library = python / "lib" / "python3.99"
    assert {path.name for path in library.iterdir()} == {
        "os.py",
        "_sysconfigdata__x.py",
        "_sysconfigdata_x.py",
    }
    told = (library / "_sysconfigdata_x.py").read_text()
    assert told == f"{{'WHEEL_PKG_DIR': '{python}/wheels/'}}"
    assert (python / "wheels" / "pip.whl").exists()
    assert (python / "libunused.so.1").exists()  # a module may load it


def test_of_what_a_package_needs_only_the_libraries_are_taken(unpack: dict[str, Any]) -> None:
    planned = ["libc6", "zlib1g", "libssl3t64", "perl", "libperl5.40", "libjson-perl", "adduser"]
    taken = [name for name in planned if unpack["LIBRARY"].match(name)]
    assert taken == ["libc6", "zlib1g", "libssl3t64", "libjson-perl"]


def test_where_there_is_no_apt_it_says_so(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "servers", "pgbouncer:trixie:pgbouncer"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr.startswith("scripts/unpack.py: no apt-get: this needs Debian")
    assert not (tmp_path / "servers").exists()
