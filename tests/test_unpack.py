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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What packages hold: a program, its libraries and a loader, in the folders of Debian."""
    program = shutil.which("true", path="/usr/bin:/bin")
    if LOADER is None or program is None:
        pytest.skip("only Linux with glibc has what Debian's packages hold")
    told = subprocess.run([LOADER, "--list", program], capture_output=True, text=True, check=True)
    root = tmp_path / "root"
    for folder in ("usr/sbin", "lib64", "usr/lib/any-linux-gnu"):
        (root / folder).mkdir(parents=True)
    shutil.copy(program, root / "usr" / "sbin" / "pooler")
    shutil.copy(LOADER, root / "lib64")
    for library in re.findall(r" => (\S+) \(0x", told.stdout):
        shutil.copy(library, root / "usr" / "lib" / "any-linux-gnu")
    (root / "usr" / "lib" / "any-linux-gnu" / "libunused.so.1").touch()
    return root


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


def test_a_tree_without_the_program_is_an_error(
    unpack: dict[str, Any], tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(unpack["UnpackError"], match="no bouncer"):
        unpack["lay"](tree, "bouncer", tmp_path / "servers")


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
