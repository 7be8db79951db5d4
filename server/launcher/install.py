"""Makes the folder of packages, by a process of its own: with uv where there is one, else with pip.

Only files whose hash is in the lock are taken, and only wheels: nothing is built here, so no code
of a package runs before its hash was compared.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT, CalledProcessError, check_output

from launcher.place import LOCK, OPTIONAL, READY, complete, is_full, locked, place_for

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
CHECKING = ("ast_grep_py",)
"""What checking code imports as well."""
LEFT_OUT = "code cannot be checked here"
"""How the line begins that says why OPTIONAL is not installed."""
TRY = "import importlib, site, sys; site.addsitedir(sys.argv[1]); sys.path.insert(0, sys.argv[1]); "
TRY += "[importlib.import_module(each) for each in sys.argv[2:]]"
PYTHON = (sys.executable, "-P", "-B")
"""Imports nothing from the folder in which a client happens to be."""
REACHED = (
    *("CACHE", "CERT", "CLIENT_CERT", "CONFIG_FILE", "DEFAULT_INDEX", "DEFAULT_TIMEOUT"),
    *("EXTRA_INDEX", "FIND_LINKS", "HTTP", "INDEX", "INSECURE_HOST", "KEYRING", "NATIVE_TLS"),
    *("NO_CACHE", "NO_INDEX", "OFFLINE", "PROXY", "RETRIES", "SYSTEM_CERTS", "TIMEOUT", "TRUSTED"),
)
"""How the variables of pip and uv begin that say where packages come from."""
NOT_OTHERWISE = {
    f"PIP_{name}": "0" for name in ("DRY_RUN", "NO_DEPS", "REQUIRE_VIRTUALENV", "USER")
}
"""A variable goes before what pip's configuration says of the same."""
FULL = re.compile(
    r"No space left on device|not enough space on the disk|Disk quota exceeded", re.IGNORECASE
)
FOREIGN = re.compile(r"DO NOT MATCH THE HASHES|hash mismatch", re.IGNORECASE)
"""How pip and uv say that a file is not the one that the lock names."""
NO_PACKAGES, NO_PLACE, NO_SPACE, NOT_OURS = 1, 3, 4, 5
"""Exit codes: nothing could be installed, nothing be written, or not all; a file is not ours."""
ABANDONED = 3600
"""Seconds after which packages that were never complete are removed."""
UNUSED = 30 * 86400
"""Seconds after which packages that no start has used are removed."""


class NotInstalledError(Exception):
    """Neither uv nor pip could install; `code` is the exit code that says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main(data: Path) -> int:
    """Install into `data`; answers with the exit code. What went wrong is said on stderr."""
    os.umask(0o022)  # what one user installed may serve others, and is theirs alone to write
    try:
        build(data)
    except NotInstalledError as error:
        return error.code
    except OSError as error:
        tell(str(error))
        return NO_SPACE if is_full(error) else NO_PLACE
    return 0


def build(data: Path) -> None:
    """Install into a folder beside its place and move it there when it is complete: what is
    interrupted never looks ready. Of two at once the second waits for the first. OSError or
    NotInstalledError where it failed."""
    place = place_for(data)
    with _alone(data / "lock"):
        if found := complete(place):
            found.close()
            return
        _clean(data)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=data))
        try:
            new = building / "packages"
            new.mkdir()
            _install(new)
            names = sorted(each.name for each in new.iterdir())
            (new / READY).write_text("\n".join(names), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)  # somebody has removed a part of it
            new.rename(place)
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

            def held() -> bool:
                with suppress(OSError):  # it gives up after ten seconds
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                    return True
                return False

            for _ in iter(held, True):
                pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(target: Path) -> None:
    """Install into a plain folder: quicker than an environment, and it can be moved."""
    environ = {name: value for name, value in os.environ.items() if _is_for_us(name)}
    # One disk is filled, and what an interrupted start leaves there is removed.
    environ |= {**dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(target.parent)), **NOT_OTHERWISE}
    said = ""
    for name, tool in _tools().items():
        try:
            _fill(target, tool, LOCK, IMPORTED, environ)
        except (CalledProcessError, OSError) as error:
            # uv does not read pip's configuration: where that names a mirror or a certificate,
            # pip installs what uv could not.
            text = str(getattr(error, "output", error))
            said += f"{text}\n"
            tell(f"{text.rstrip()}\n{name} could not install".strip())
            shutil.rmtree(target, ignore_errors=True)
        else:
            if OPTIONAL.is_file():
                _add(target, tool, environ)
            return
    raise NotInstalledError(_why(said))


def _add(target: Path, tool: Sequence[str], environ: Mapping[str, str]) -> None:
    """Install OPTIONAL too, in a folder of its own until it has been tried: the server does without
    it, so a failure is one line and nothing else."""
    apart = target.with_name("optional")
    try:
        _fill(apart, tool, OPTIONAL, CHECKING, environ)
        for each in apart.iterdir():
            if not (target / each.name).exists():
                each.rename(target / each.name)
    except (CalledProcessError, OSError) as error:
        text = str(getattr(error, "output", error))
        why = f"no wheel of it was found that works with Python {platform.python_version()} here"
        if FOREIGN.search(text):
            why = f"it is not the file that server/{OPTIONAL.name} names"
        elif FULL.search(text) or (isinstance(error, OSError) and is_full(error)):
            why = "no space is left for it"
        tell(f"{LEFT_OUT}, all else works: ast-grep-py is not installed, {why}")


def _fill(
    target: Path,
    tool: Sequence[str],
    lock: Path,
    imported: Sequence[str],
    environ: Mapping[str, str],
) -> None:
    """Install what a lock names, and try it. CalledProcessError or OSError where it failed."""
    target.mkdir(exist_ok=True)
    options = ["-q", "--target", str(target), "--require-hashes", "--only-binary", ":all:"]
    _run([*tool, *options, "-r", str(lock)], environ)
    _run([*PYTHON, "-c", TRY, str(target), *imported], environ)


def _tools() -> dict[str, list[str]]:
    """The commands that install, the first to try first."""
    tools: dict[str, list[str]] = {}
    if uv := shutil.which("uv"):
        tools["uv"] = [uv, "pip", "install", "--python", sys.executable]
    tools["pip"] = [*PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    tools["pip"] += ["--no-compile", "--no-warn-script-location"]
    return tools


def _run(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """CalledProcessError with all that the command said, where it failed."""
    check_output(
        command,
        env=environ,
        stdin=DEVNULL,
        stderr=STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _why(said: str) -> int:
    """The exit code for what uv and pip have said. A file that is not ours comes first, whatever
    happened to the other tool."""
    if found := FOREIGN.search(said):
        named = re.search(r"[\w.-]+==[\w.+!-]+\w", said[found.start() :])
        what = f"{named[0]} is" if named else "a package is"
        tell(f"refused: {what} not the file that server/requirements.txt names; none is installed")
        return NOT_OURS
    return NO_SPACE if FULL.search(said) else NO_PACKAGES


def tell(text: str) -> None:
    """Write for the start that waits. Where its log finds no space, the exit code says enough."""
    with suppress(OSError):  # what stays in a buffer would change the exit code
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def _is_for_us(variable: str) -> bool:
    """Not what tells pip or uv to install otherwise (PIP_DRY_RUN, PIP_NO_DEPS, PIP_TARGET): only
    where packages come from, and how they are reached."""
    tool, _, rest = variable.partition("_")
    return tool not in ("PIP", "UV") or rest.startswith(REACHED)


def _clean(data: Path) -> None:
    """Remove what interrupted starts have left, and packages that no start has used for long and
    no server uses now."""
    for path in [*data.glob("building-*"), *data.glob("packages-*")]:
        ready = path / READY
        with suppress(OSError):  # a server has it, or another start has removed it meanwhile
            used, age = (ready, UNUSED) if ready.exists() else (path, ABANDONED)
            if time.time() - used.stat().st_mtime > age:
                shutil.rmtree(_retired(path) if used is ready else path, ignore_errors=True)


def _retired(place: Path) -> Path:
    """Packages, moved to where no start takes them. OSError where a server uses them."""
    gone = place.with_name(f"building-{place.name}")
    if os.name == "nt":  # which moves no folder in which a file is open
        return place.rename(gone)
    with (place / READY).open("rb") as ready:
        if not locked(ready, shared=False):
            raise BlockingIOError
        return place.rename(gone)
