"""Starts the server on a machine that has nothing but Python: `python3 server/launch.py`.

Standard library only. The first start makes an environment outside this folder, with uv where
there is one; later starts go straight to the server. Everything it says goes to stderr, for stdout
belongs to the protocol.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READY = "packlore-ready"
"""The file that says an environment is complete."""
ABANDONED = 3600
"""Seconds after which an environment that was never finished is removed."""


def say(text: str) -> None:
    """One line for the person who reads the client's log."""
    sys.stderr.write(f"packlore: {text}\n")
    sys.stderr.flush()


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where environments are kept: PACKLORE_DATA, else the user's cache folder."""
    given = environ.get("PACKLORE_DATA", "")
    if given and not given.startswith("${"):  # a host may leave its variable as it stands
        return Path(given)
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "packlore"


def python_in(environment: Path) -> Path:
    """The interpreter of an environment."""
    windows = sys.platform == "win32"
    return environment / ("Scripts/python.exe" if windows else "bin/python")


def environment(data: Path) -> Path:
    """A complete environment in `data`, made where there is none yet.

    It is built beside its place and moved there when it is complete: an interrupted start leaves
    nothing that looks ready, and of two starts at once the first to finish wins. Its name carries
    what it was made from, so an update makes a new one.
    """
    wanted = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    key = hashlib.sha256(wanted + sys.version.encode() + platform.machine().encode())
    place = data / f"env-{key.hexdigest()[:16]}"
    if (place / READY).is_file():
        return place
    data.mkdir(parents=True, exist_ok=True)
    _clean(data)
    say("first start: installing what the server needs, this takes a minute")
    started = time.monotonic()
    building = Path(tempfile.mkdtemp(prefix="building-", dir=data))
    try:
        _install(building)
        (building / READY).touch()
        try:
            building.rename(place)
        except OSError:
            if not (place / READY).is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    say(f"installed in {time.monotonic() - started:.0f} s")
    return place


def _install(target: Path) -> None:
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    uv = shutil.which("uv")
    python = str(python_in(target))
    pins = ["-c", str(ROOT / "constraints.txt")]
    if uv:
        # `--seed`-less and quick; `--allow-existing` because mkdtemp has made the folder.
        steps = [
            [uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(target)],
            [uv, "pip", "install", "-q", "--python", python, *pins, *needed],
        ]
    else:
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        steps = [[sys.executable, "-m", "venv", str(target)], [*pip, *pins, *needed]]
    for step in steps:
        subprocess.run(step, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _clean(data: Path) -> None:
    """Remove what interrupted starts have left."""
    for path in data.glob("building-*"):
        if time.time() - path.stat().st_mtime > ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    """Become the server; answers with an exit code only where that is not possible."""
    if sys.version_info < (3, 11):
        say(
            f"needs Python 3.11 or later, and this is {platform.python_version()}: {sys.executable}"
        )
        return 1
    try:
        python = python_in(environment(data_folder()))
    except subprocess.CalledProcessError as error:
        say(f"could not install: {' '.join(map(str, error.cmd))} failed")
        say("Debian and Ubuntu need the package python3-venv; or install uv")
        return 1
    except OSError as error:
        say(f"could not install into {data_folder()}: {error}; PACKLORE_DATA names another folder")
        return 1
    paths = [str(ROOT / "server"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python), "-m", "packlore", *(sys.argv[1:] or ["serve"])]
    if "--pack" not in command and "PACKLORE_PACK" not in environ:
        environ["PACKLORE_PACK"] = str(ROOT)
    if sys.platform == "win32":  # exec there would end the process that the client waits for
        return subprocess.run(command, env=environ, check=False).returncode
    os.execve(python, command, environ)
    return 1


if __name__ == "__main__":
    sys.exit(main())
