"""Becomes the server, and has installed what it imports before, where that is not there yet.
Everything it says goes to stderr, for stdout belongs to the protocol."""

from __future__ import annotations

import importlib
import os
import platform
import site
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO, NoReturn

from launcher import install
from launcher.place import (
    LAUNCHER,
    READY,
    ROOT,
    complete,
    data_folder,
    is_full,
    place_for,
    refuse_if_shared,
)

REBUILT = "PACKLORE_REBUILT"
"""Says to a start that it is the second one, after a part was missing."""
ELSEWHERE = "PACKLORE_DATA names another folder"
NO_SPACE = "no space left in {}: make room there, or let PACKLORE_DATA name another folder"
_held: list[BinaryIO] = []
"""Open as long as this process lives: it says to other starts which packages are in use."""


def say(text: str) -> None:
    """One line for the person who reads the client's log."""
    with suppress(OSError):
        sys.stderr.write(f"packlore: {text}\n")
        sys.stderr.flush()


def main() -> int:
    """Become the server; answers with an exit code only where that is not possible."""
    if sys.argv[1:2] == ["--install"]:
        return install.main(Path(sys.argv[2]))
    if sys.argv[1:2] == ["hook"]:
        return hook()
    try:
        data = data_folder()
    except RuntimeError as error:
        say(f"could not install: {error}; {ELSEWHERE}")
        return 1
    try:
        installed, compiled = packages(data), compiled_in(data)
    except OSError as error:
        say(NO_SPACE.format(data) if is_full(error) else f"could not install: {error}; {ELSEWHERE}")
        return 1
    except subprocess.CalledProcessError as error:
        if text := _why(error.returncode, data):
            say(text)
        return 1
    except KeyboardInterrupt:
        return 130
    return serve(installed, compiled)


def hook() -> int:
    """Let `packlore hook` look at an edit, where its packages are there. Installing them is left to
    the start of the server: an agent waits for this. Answers with 0, whatever happens."""
    with suppress(OSError, RuntimeError, ImportError):
        data = data_folder()
        place = place_for(data)
        refuse_if_shared(place)
        if _take(place):
            serve(place, compiled_in(data))
    return 0


def _why(code: int, data: Path) -> str:
    """What to do where an installation ended with this exit code; empty where that was said."""
    if code == install.NO_SPACE:
        return NO_SPACE.format(data)
    if code == install.NO_PLACE:
        return f"could not install into {data}; {ELSEWHERE}"
    if code == install.NOT_OURS:
        return ""
    version = ".".join(platform.python_version_tuple()[:2])
    here = f"Python {version} on {platform.system()} {platform.machine()}"
    needed = "a network, pip (Debian and Ubuntu: python3-pip) or uv"
    return f"could not install. It needs {needed}, and wheels for {here}"


def packages(data: Path) -> Path:
    """The folder of `place_for`, complete: installed by a process of its own where it is not.

    A client may give up on a slow first start and end this process. The other one goes on, and
    the next start finds its work done. OSError or CalledProcessError where it failed.
    """
    place = place_for(data)
    data.mkdir(parents=True, exist_ok=True, mode=0o755)
    refuse_if_shared(place)
    if not _take(place):
        again = (place / READY).is_file()  # a cleaner of caches may have been here
        say(f"{'a part is missing' if again else 'first start'}: installing, this takes a minute")
        started = time.monotonic()
        _install(data)
        say(f"installed in {time.monotonic() - started:.0f} s")
        refuse_if_shared(place)
        _take(place)
    return place


def compiled_in(data: Path) -> Path:
    """The folder for compiled files. PermissionError where others could put some there."""
    compiled = data / "compiled"
    with suppress(OSError):  # of a folder to read alone nothing is compiled
        compiled.mkdir(mode=0o755)
    refuse_if_shared(compiled)
    return compiled


def _take(place: Path) -> bool:
    """Hold packages while this process lives, where they are complete."""
    ready = complete(place)
    if ready is None:
        return False
    _held.append(ready)
    with suppress(OSError):
        os.utime(place / READY)  # still in use
    return True


def _install(data: Path) -> None:
    """Run the installation, and say the end of what it said where it failed."""
    command = [sys.executable, str(LAUNCHER), "--install", str(data)]
    with tempfile.TemporaryFile(dir=data) as log:
        try:
            subprocess.check_call(
                command,
                cwd=data,  # not the folder of a client, in which a program `uv` may lie
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except subprocess.CalledProcessError:
            for line in _lines(log)[-10:]:
                say(line)
            raise
        for line in _lines(log):
            if line.startswith(install.LEFT_OUT):
                say(line)


def _lines(log: IO[bytes]) -> list[str]:
    log.seek(0)
    return log.read().decode("utf-8", "replace").splitlines()


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
            for each in install.IMPORTED:
                importlib.import_module(each)
    except ImportError as error:
        _again(installed, error)
    command()


def _again(installed: Path, error: ImportError) -> NoReturn:
    """Start once more, with packages made anew: something has taken a part of them away."""
    if os.environ.get(REBUILT):
        raise error
    try:
        (installed / READY).unlink(missing_ok=True)
    except OSError:  # somebody else has installed them
        raise error from None
    environ = {**os.environ, REBUILT: "1"}
    command = [sys.executable, str(LAUNCHER), *sys.argv[1:]]
    if sys.platform == "win32":  # there exec gives stdin and stdout to nobody
        try:
            subprocess.check_call(command, env=environ)
        except subprocess.CalledProcessError as ended:
            sys.exit(ended.returncode)
        sys.exit(0)
    os.execve(sys.executable, command, environ)  # noqa: S606
