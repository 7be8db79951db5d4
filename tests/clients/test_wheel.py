"""The wheel carries the pack, byte for byte, and works where it is installed."""

from __future__ import annotations

import re
import shlex
import sys
import zipfile
from pathlib import Path

from packlore.pack.read import read
from tests.clients.tools import run
from tests.proofs.harness import ROOT

INSIDE = "packlore/.agents/skills/python-backend/"


def carried(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_serves_what_the_repository_serves(dist: Path, clone: Path) -> None:
    (pack,) = read(clone)
    (wheel,) = dist.glob("*.whl")
    found = {
        name.removeprefix(INSIDE): data
        for name, data in carried(wheel).items()
        if name.startswith(INSIDE)
    }
    assert found == {file.path: file.data for file in pack.files}


def test_the_sdist_and_the_repository_build_the_same_wheel(
    dist: Path, build: Path, clone: Path, tmp_path: Path
) -> None:
    run([build / "python", "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, clone])
    (one,), (other,) = dist.glob("*.whl"), tmp_path.glob("*.whl")
    assert carried(one) == carried(other)


def test_nothing_of_development_is_in_it(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = [name for name in carried(wheel) if "dist-info" not in name]
    assert {name.split("/")[0] for name in names} == {"packlore"}
    development = re.compile(r"__pycache__|(^|/)tests?(/|_)|_test\.")
    assert not [name for name in names if development.search(name)]


def test_an_installation_with_hashes_finds_its_own_pack(dist: Path, tmp_path: Path) -> None:
    """By the lines of SECURITY.md."""
    (wheel,) = dist.glob("*.whl")
    run([sys.executable, "-m", "venv", tmp_path / "env"])
    python = tmp_path / "env" / "bin" / "python"
    lines = re.findall(r"^ +pip (install .*)$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["--require-hashes", "--no-deps"]
    for line in lines:
        arguments = shlex.split(line.replace("WHEEL", str(wheel)))
        options = ["-q", "--disable-pip-version-check"]
        run([python, "-m", "pip", *arguments, *options], cwd=ROOT)
    assert "No broken requirements" in run([python, "-m", "pip", "check"]).stdout
    command = tmp_path / "env" / "bin" / "packlore"
    out = run([command, "search", "greenlet_spawn has not been called"], cwd=tmp_path).stdout
    assert out.startswith("sqlalchemy-expire-on-commit ")
