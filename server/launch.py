"""Starts the server on a machine that has nothing but Python: `python3 server/launch.py`.

Standard library only. The first start installs what the server imports, outside this folder, with
uv where there is one, else with pip; later starts go straight to the server. Everything it says
goes to stderr, for stdout belongs to the protocol.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import shutil
import site
import stat
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
REBUILT = "PACKLORE_REBUILT"
"""Says to a start that it is the second one, after a part was missing."""
IMPORTED = (
    "anyio",
    "markdown_it",
    "mcp.server.mcpserver",
    "pydantic",
    "starlette",
    "uvicorn",
    "yaml",
)
"""What the server imports: an installation is tried by importing it."""
TRY = "import importlib, site, sys; site.addsitedir(sys.argv[1]); sys.path.insert(0, sys.argv[1]); "
TRY += "[importlib.import_module(each) for each in sys.argv[2:]]"
REACHED = (
    *("CACHE", "CERT", "CLIENT_CERT", "CONFIG_FILE", "DEFAULT_INDEX", "DEFAULT_TIMEOUT"),
    *("EXTRA_INDEX", "FIND_LINKS", "HTTP", "INDEX", "INSECURE_HOST", "KEYRING", "NATIVE_TLS"),
    *("NO_CACHE", "NO_INDEX", "OFFLINE", "PROXY", "RETRIES", "SYSTEM_CERTS", "TIMEOUT", "TRUSTED"),
)
"""How the variables of pip and uv begin that say where packages come from."""
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
    data.mkdir(parents=True, exist_ok=True, mode=0o755)
    if stranger := _writable_by_others(place if place.exists() else data):
        raise PermissionError(f"others may write to {stranger}, and so into this program")
    if _whole(place):
        with suppress(OSError):
            os.utime(place / READY)  # still in use
        return place
    _clean(data)
    again = (place / READY).is_file()  # a cleaner of caches may have been here
    say(f"{'a part is missing' if again else 'first start'}: installing, this takes a minute")
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
        if _whole(place):
            return
        shutil.rmtree(place, ignore_errors=True)  # somebody has removed a part of it
        building = Path(tempfile.mkdtemp(prefix="building-", dir=data))
        try:
            _install(building)
            names = sorted(each.name for each in building.iterdir())
            (building / READY).write_text("\n".join(names), encoding="utf-8")
            building.chmod(0o755)  # what one user installed may serve others
            building.rename(place)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _whole(place: Path) -> bool:
    """Whether an installation was completed, and all that it has put there still is."""
    try:
        names = (place / READY).read_text(encoding="utf-8").split("\n")
        there = {each.name for each in os.scandir(place)}
    except (OSError, ValueError):
        return False
    return {name for name in names if name} <= there


def _writable_by_others(place: Path) -> Path | None:
    """The folder on the way to `place` into which another user may put files, if there is one.
    A folder such as /tmp, in which each keeps what is theirs, is none."""
    if not hasattr(os, "getuid"):  # Windows has no such modes
        return None
    for folder in (place, *place.resolve().parents):
        status = folder.stat()
        shared = status.st_mode & stat.S_IWOTH or (
            status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getgid())
        )
        if status.st_uid not in (0, os.getuid()) or (shared and not status.st_mode & stat.S_ISVTX):
            return folder
    return None


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
    environ = {name: value for name, value in os.environ.items() if _is_for_us(name)}
    for name, tool in tools.items():
        command = [*tool, *options, *needed]
        try:
            for each in (command, [sys.executable, "-c", TRY, str(target), *IMPORTED]):
                subprocess.check_call(
                    each, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr
                )
        except (subprocess.CalledProcessError, OSError):
            # uv does not read pip's configuration: where that names a mirror or a certificate,
            # pip installs what uv could not.
            sys.stderr.write(f"{name} could not install\n")
            sys.stderr.flush()
            if name == "pip":
                raise
        else:
            return


def _is_for_us(variable: str) -> bool:
    """Not what tells pip or uv to install otherwise (PIP_DRY_RUN, PIP_NO_DEPS, PIP_TARGET): only
    where packages come from, and how they are reached."""
    tool, _, rest = variable.partition("_")
    return tool not in ("PIP", "UV") or rest.startswith(REACHED)


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
    try:
        from packlore.cli import command

        if sys.argv[1:2] == ["serve"]:
            for each in IMPORTED:
                importlib.import_module(each)
    except ImportError as error:
        _again(installed, error)
    command()


def _again(installed: Path, error: ImportError) -> NoReturn:
    """Start once more, with packages made anew: something has taken a part of them away."""
    if os.environ.get(REBUILT):
        raise error
    (installed / READY).unlink(missing_ok=True)
    environ = {**os.environ, REBUILT: "1"}
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    if sys.platform == "win32":  # there exec gives stdin and stdout to nobody
        try:
            subprocess.check_call(command, env=environ)
        except subprocess.CalledProcessError as ended:
            sys.exit(ended.returncode)
        sys.exit(0)
    os.execve(sys.executable, command, environ)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
