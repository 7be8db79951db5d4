"""The plugin that checks edits finds the server of the other plugin, and is in nobody's way."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packlore.locate import locate
from packlore.pack.build import MANIFESTS
from tests.proofs.harness import ROOT

PLUGIN = ROOT / "check-plugin"
# A launcher that says where it lies, what it was asked, what it got and which packages it is to use.
SPY = """import os, sys
print(__file__, sys.argv[1:], sys.stdin.read(), os.environ.get("PACKLORE_DATA"))
"""


def plugin(folder: Path) -> Path:
    """The plugin, copied as a client does."""
    return Path(shutil.copytree(PLUGIN, folder, ignore=shutil.ignore_patterns("__pycache__")))


def launcher(folder: Path, code: str = SPY) -> Path:
    path = folder / "server" / "launch.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    return path


def run(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The hook of a plugin in `folder`."""
    return subprocess.run(
        [sys.executable, folder / "hook.py"],
        cwd=folder,
        env={"PATH": "/nowhere", **environ},
        input="{}",
        capture_output=True,
        text=True,
        check=False,
    )


def found(folder: Path, **environ: str) -> str:
    """Which launcher was run, and with which packages."""
    done = run(folder, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    path, _, rest = done.stdout.strip().partition(" ['hook'] {} ")
    assert rest, done
    return f"{path} {rest}"


def test_in_a_clone_the_server_lies_beside_it(tmp_path: Path) -> None:
    own = plugin(tmp_path / "clone" / "check-plugin")
    path = launcher(tmp_path / "clone")
    assert found(own) == f"{path} None"


def test_installed_it_takes_the_server_of_its_own_version_else_the_newest_else_the_clone(
    tmp_path: Path,
) -> None:
    market = tmp_path / "plugins" / "cache" / "packlore"
    own = plugin(market / "python-backend-check" / "0.2.0")
    clone = launcher(tmp_path / "plugins" / "marketplaces" / "packlore")
    assert found(own) == f"{clone} None"
    for name, time in (("newer", 2_000_000_000), ("older", 1_000_000_000)):
        launcher(market / "python-backend" / name)
        os.utime(market / "python-backend" / name, (time, time))
    assert found(own) == f"{market}/python-backend/newer/server/launch.py None"
    same = launcher(market / "python-backend" / "0.2.0")
    os.utime(market / "python-backend" / "0.2.0", (0, 0))
    assert found(own) == f"{same} None"


def test_it_uses_the_packages_that_the_other_plugin_has_installed(tmp_path: Path) -> None:
    own = plugin(tmp_path / "clone" / "check-plugin")
    path = launcher(tmp_path / "clone")
    data = tmp_path / "data" / "python-backend-packlore"
    given = {"CLAUDE_PLUGIN_DATA": str(tmp_path / "data" / "python-backend-check-packlore")}
    assert found(own, **given) == f"{path} None"
    (data / "packages-x").mkdir(parents=True)
    assert found(own, **given) == f"{path} {data}"


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_without_a_launcher_the_program_on_the_path_is_asked(tmp_path: Path) -> None:
    own = plugin(tmp_path / "a" / "b")
    program = tmp_path / "bin" / "packlore"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n/bin/cat\n')
    program.chmod(0o755)
    done = run(own, PATH=str(program.parent))
    assert (done.returncode, done.stdout, done.stderr) == (0, "hook\n{}", "")
    program.rename(own / "packlore")  # what an agent works on may hold anything
    done = run(own, PATH=".")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit(2)", "raise SystemExit('no')", "1 / 0", "import nothing", "x ="]
)
def test_a_server_that_fails_is_nobodys_failure(tmp_path: Path, code: str) -> None:
    """Exit code 2 would tell the agent that its edit was wrong."""
    own = plugin(tmp_path / "clone" / "check-plugin")
    launcher(tmp_path / "clone", code)
    done = run(own)
    assert (done.returncode, done.stdout) == (0, "")


def test_where_there_is_no_server_nothing_is_said(tmp_path: Path) -> None:
    done = run(plugin(tmp_path / "alone"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_python_can_read_it() -> None:
    ast.parse((PLUGIN / "hook.py").read_text("utf-8"), feature_version=(3, 7))


def test_it_is_small_for_it_is_copied_to_users() -> None:
    sizes = [path.stat().st_size for path in PLUGIN.rglob("*") if path.suffix != ".pyc"]
    assert sum(sizes) < 40_000


def test_its_version_is_derived_and_it_brings_the_other_plugin() -> None:
    name = "check-plugin/.claude-plugin/plugin.json"
    assert name in MANIFESTS
    manifest = json.loads((ROOT / name).read_text("utf-8"))
    market = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text("utf-8"))
    first, second = market["plugins"]
    assert manifest["dependencies"] == [first["name"]]
    shared = {key: second[key] for key in ("name", "description", "version")}
    assert shared == {key: manifest[key] for key in shared}
    assert first["version"] == second["version"]
    assert (ROOT / second["source"]).samefile(PLUGIN)


def test_no_pack_is_found_in_it() -> None:
    assert [each.name for each in locate([str(ROOT)])] == [ROOT.name]
