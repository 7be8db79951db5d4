"""Whatever lies in the current folder, no Python of ours imports it: neither the command nor the
processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_all_start_methods
from pathlib import Path

import httpx
import pytest

from packlore.check.run import FEW
from tests.check.test_reading import GOOD
from tests.packs import own, write
from tests.proofs.harness import ROOT
from tests.services import serving_process

ENTRY = """\
import multiprocessing
import os
real = multiprocessing.get_context
multiprocessing.get_context = lambda _=None: real(os.environ["METHOD"])
if __name__ == "__main__":
    from packlore.cli import command
    command()
"""
"""As pip makes a command: the first folder on its path is its own."""
PLANTED = """\
import os
with open(os.environ["MARK"], "a") as file:
    file.write(__name__ + "\\n")
os._exit(9)
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module in place of each of Python's own, which is the current one."""
    pack = write(own(tmp_path / "pack"), {"rules/asyncio-timeout.yml": GOOD})
    write(tmp_path, {"bin/run.py": ENTRY})
    names = {f"tree/{name}.py": PLANTED for name in sys.stdlib_module_names}
    assert len(names) > FEW
    write(tmp_path, names | {"tree/bad.py": "import time\ntime.sleep(1)\n"})
    monkeypatch.chdir(tmp_path / "tree")
    monkeypatch.setenv("PACKLORE_PACK", str(pack))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "server"))
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("METHOD", "spawn")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


def ran(folder: Path) -> list[str]:
    """The modules of the current folder that some process has imported."""
    mark = folder / "mark"
    return mark.read_text().split() if mark.exists() else []


@pytest.mark.parametrize("method", get_all_start_methods())
def test_a_check_of_many_files_imports_none_of_them(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("METHOD", method)
    for how in ([str(hostile / "bin/run.py")], ["-E", str(hostile / "bin/run.py")]):
        if "-E" in how:  # then no variable speaks, and the package is found beside the command
            (hostile / "bin/packlore").symlink_to(ROOT / "server/packlore")
        command = [sys.executable, *how, "check", "."]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran(hostile) == []
        assert (done.returncode, done.stdout.split(":")[0]) == (1, "bad.py"), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM")
def test_the_workers_of_a_server_import_nothing_from_the_folder(hostile: Path) -> None:
    command = [sys.executable, str(hostile / "bin/run.py"), "serve", "--http"]
    with serving_process(
        [*command, "--port", "{port}", "--workers", "2"], env={**os.environ}, path="/health"
    ) as program:
        assert httpx.get(f"{program.url}/health").status_code == 200
    assert ran(hostile) == []
