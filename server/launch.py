"""Starts the server on a machine that has nothing but Python: `python3 server/launch.py`.

Standard library only. The first start installs what the server imports, outside this folder, with
uv where there is one, else with pip; later starts go straight to the server. Everything it says
goes to stderr, for stdout belongs to the protocol.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

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


def place_for(data: Path) -> Path:
    """The folder in `data` that holds what the server imports. Its name carries what it is made
    from, so an update makes a new one."""
    wanted = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    key = hashlib.sha256(wanted + sys.version.encode() + platform.machine().encode())
    return data / f"packages-{key.hexdigest()[:16]}"


def packages(data: Path) -> Path:
    """The folder of `place_for`, complete: installed by a process of its own where it is not.

    A client may give up on a slow first start and end this process. The other one goes on, and
    the next start finds its work done. OSError or CalledProcessError where it failed.
    """
    place = place_for(data)
    if (place / READY).is_file():
        return place
    data.mkdir(parents=True, exist_ok=True)
    _clean(data)
    say("first start: installing what the server needs, this takes a minute")
    started = time.monotonic()
    command = [sys.executable, str(Path(__file__).resolve()), "--install", str(data)]
    with tempfile.TemporaryFile() as log:
        try:
            subprocess.check_call(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except subprocess.CalledProcessError:
            log.seek(0)
            for line in log.read().decode("utf-8", "replace").splitlines()[-10:]:
                say(line)
            raise
    say(f"installed in {time.monotonic() - started:.0f} s")
    return place


def build(data: Path) -> None:
    """Install into a folder beside its place and move it there when it is complete: what is
    interrupted never looks ready, and of two at once the first to finish wins."""
    place = place_for(data)
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


def _install(target: Path) -> None:
    """Install into a plain folder: quicker than an environment, and it can be moved."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    tools = {}
    uv = shutil.which("uv")
    if uv:
        tools["uv"] = [uv, "pip", "install", "--python", sys.executable]
    tools["pip"] = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    tools["pip"] += ["--no-compile", "--no-warn-script-location"]
    tools["pip"] += ["--upgrade"]  # over what uv may have left
    options = ["-q", "--target", str(target), "-c", str(ROOT / "constraints.txt")]
    environ = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
    for name, tool in tools.items():
        command = [*tool, *options, *needed]
        try:
            subprocess.check_call(command, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        except subprocess.CalledProcessError:
            # uv does not read pip's configuration: where that names a mirror or a certificate,
            # pip installs what uv could not.
            sys.stderr.write(f"{name} could not install\n")
            sys.stderr.flush()
            if name == "pip":
                raise
        else:
            return


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
    if sys.argv[1:2] == ["--install"]:
        try:
            build(Path(sys.argv[2]))
        except subprocess.CalledProcessError as error:
            return error.returncode  # what went wrong has been said
        return 0
    data = data_folder()
    try:
        installed = packages(data)
    except subprocess.CalledProcessError:
        say("could not install. It needs a network and pip (Debian and Ubuntu: python3-pip) or uv")
        return 1
    except OSError as error:
        say(f"could not install into {data}: {error}; PACKLORE_DATA names another folder")
        return 1
    return serve(installed, data / "compiled")


def serve(installed: Path, compiled: Path) -> NoReturn:
    """Run the server here, with `installed` before all else that this Python has. Compiled files
    go to `compiled`: nothing is written into the skill's own folder."""
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(compiled)
    known = list(sys.path)
    site.addsitedir(str(installed))  # reads .pth files too, which pywin32 needs
    added = [path for path in sys.path if path not in known]
    sys.path[:] = [str(ROOT / "server"), *added, *known]
    sys.argv[1:] = sys.argv[1:] or ["serve"]
    os.environ.setdefault("PACKLORE_PACK", str(ROOT))
    from packlore.cli import command

    command()


if __name__ == "__main__":
    sys.exit(main())
