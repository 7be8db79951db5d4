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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
READY = "packlore-ready"
"""The file that says packages are complete."""
NO_PACKAGES, NO_PLACE = 1, 3
"""Exit codes of an installation: nothing could be installed, or nothing be written."""
ABANDONED = 3600
"""Seconds after which packages that were never complete are removed."""
UNUSED = 30 * 86400
"""Seconds after which packages that no start has used are removed."""


def say(text: str) -> None:
    """One line for the person who reads the client's log."""
    sys.stderr.write(f"packlore: {text}\n")
    sys.stderr.flush()


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where packages are kept: PACKLORE_DATA, else the user's cache folder. RuntimeError where
    there is no home either."""
    given = environ.get("PACKLORE_DATA", "")
    if given and not given.startswith("${"):  # a host may leave its variable as it stands
        return Path(given).expanduser().absolute()
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
        with suppress(OSError):
            os.utime(place / READY)  # still in use
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
    interrupted never looks ready. Of two at once the second waits for the first."""
    place = place_for(data)
    with _alone(data / "lock"):
        if (place / READY).is_file():
            return
        shutil.rmtree(place, ignore_errors=True)  # somebody has removed a part of it
        building = Path(tempfile.mkdtemp(prefix="building-", dir=data))
        try:
            _install(building)
            (building / READY).touch()
            building.chmod(0o755)  # what one user installed may serve others
            building.rename(place)
        finally:
            shutil.rmtree(building, ignore_errors=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock that the system gives back when this process ends, however it ends."""
    with path.open("ab") as file:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            while True:
                with suppress(OSError):  # it gives up after ten seconds
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                    break
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
    # Where pip is told to install elsewhere, it would refuse the target.
    elsewhere = {"PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER"}
    environ = {name: value for name, value in os.environ.items() if name not in elsewhere}
    for name, tool in tools.items():
        command = [*tool, *options, *needed]
        try:
            subprocess.check_call(command, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        except (subprocess.CalledProcessError, OSError):
            # uv does not read pip's configuration: where that names a mirror or a certificate,
            # pip installs what uv could not.
            sys.stderr.write(f"{name} could not install\n")
            sys.stderr.flush()
            if name == "pip":
                raise
        else:
            return


def _clean(data: Path) -> None:
    """Remove what interrupted starts have left, and packages that no start has used for long."""
    left = [(path, path, ABANDONED) for path in data.glob("building-*")]
    left += [(path, path / READY, UNUSED) for path in data.glob("packages-*")]
    for path, used, age in left:
        with suppress(OSError):  # another start may have removed it meanwhile
            if time.time() - used.stat().st_mtime > age:
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
        except subprocess.CalledProcessError:
            return NO_PACKAGES  # what went wrong has been said
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            return NO_PLACE
        return 0
    try:
        data = data_folder()
        installed = packages(data)
    except (OSError, RuntimeError) as error:
        say(f"could not install: {error}; PACKLORE_DATA names another folder")
        return 1
    except subprocess.CalledProcessError as error:
        if error.returncode == NO_PLACE:
            say(f"could not install into {data}; PACKLORE_DATA names another folder")
        else:
            needed = "a network and pip (Debian and Ubuntu: python3-pip) or uv"
            say(f"could not install. It needs {needed}")
        return 1
    except KeyboardInterrupt:
        return 130
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
    from packlore.cli import command

    command()


if __name__ == "__main__":
    sys.exit(main())
