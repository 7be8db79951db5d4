"""Lets the server of the plugin python-backend look at an edit. Where there is none, or it cannot
look, nothing is said: the exit code is 0 and nothing is in anybody's way."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

PLUGIN = "python-backend"
LAUNCHER = Path("server", "launch.py")


def launchers(folder: Path) -> Iterator[Path]:
    """Where the launcher may lie, the likeliest place first. `folder` is that of this plugin: in a
    clone, or <plugins>/cache/<marketplace>/<plugin>/<version>."""
    yield folder.parent
    if len(folder.parents) > 3:
        market = folder.parents[1]
        yield market / PLUGIN / folder.name
        others = list((market / PLUGIN).glob("*"))
        yield from sorted(others, key=lambda each: each.stat().st_mtime, reverse=True)
        yield folder.parents[3] / "marketplaces" / market.name


def use_its_packages(environ: MutableMapping[str, str]) -> None:
    """Name the folder into which the server has installed: Claude Code gives each plugin one."""
    own = Path(environ.get("CLAUDE_PLUGIN_DATA", ""))
    its = own.with_name(own.name.replace(f"{PLUGIN}-check", PLUGIN, 1)) if own.name else own
    if its != own and any(its.glob("packages-*")):
        environ["PACKLORE_DATA"] = str(its)


def main() -> None:
    """Run the launcher in this process, else the program `packlore`."""
    for place in launchers(Path(__file__).resolve().parent):
        launcher = place / LAUNCHER
        if launcher.is_file():
            use_its_packages(os.environ)
            sys.argv = [str(launcher), "hook"]
            runpy.run_path(str(launcher), run_name="__main__")
            return
    program = shutil.which("packlore")
    if program and Path(program).is_absolute():  # not out of the folder in which an agent works
        subprocess.check_call([program, "hook"])


if __name__ == "__main__" and sys.version_info >= (3, 11):
    try:
        main()
    except SystemExit:  # exit code 2 would tell the agent that its edit is wrong
        pass
    except Exception as error:  # noqa: BLE001 - the same
        sys.stderr.write(f"packlore: {error!r}\n")
    sys.exit(0)
