"""Where the packages lie that the server imports, whether they are complete, and whose they are."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "server" / "launch.py"
LOCK = ROOT / "server" / "requirements.txt"
"""The releases to install, each with the hashes of its files: `make hashes`."""
OPTIONAL = ROOT / "server" / "requirements-check.txt"
"""The same for what only checks code, which has no wheels for some machines."""
READY = "packlore-ready"
"""The file that says packages are complete, and names them."""
DISK_FULL_ON_WINDOWS = 112
"""ERROR_DISK_FULL: https://learn.microsoft.com/windows/win32/debug/system-error-codes"""


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
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode() + platform.machine().encode())
    if OPTIONAL.is_file():
        key.update(OPTIONAL.read_bytes())
    return data / f"packages-{key.hexdigest()[:16]}"


def complete(place: Path) -> BinaryIO | None:
    """The open READY of an installation that was completed and of which all is still there, else
    None. While it is open, no other start removes the packages."""
    try:
        ready = (place / READY).open("rb")
    except OSError:
        return None
    try:
        names = ready.read().decode().split("\n")
        there = {each.name for each in os.scandir(place)}
        if locked(ready, shared=True) and {name for name in names if name} <= there:
            return ready
    except (OSError, ValueError):
        pass
    ready.close()
    return None


def locked(file: BinaryIO, *, shared: bool) -> bool:
    """Lock an open file until it is closed, and say whether that was possible. Where a system has
    no such locks it is: Windows renames no folder in which a file is open."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def refuse_if_shared(*places: Path) -> None:
    """PermissionError where another user could put files into one of the folders: what lies there
    is run. Of one that is missing, its parents are looked at."""
    for place in places:
        if stranger := _writable_by_others(place):
            raise PermissionError(f"others may write to {stranger}, and so into this program")


def _writable_by_others(place: Path) -> Path | None:
    """The folder on the way to `place` into which another user may put files, if there is one.
    A folder such as /tmp, in which each keeps what is theirs, is none."""
    if not hasattr(os, "getuid"):  # Windows has no such modes
        return None
    for folder in (place, *place.resolve().parents):
        status = None
        with suppress(FileNotFoundError):
            status = folder.stat()
        if status is None:
            continue
        shared = status.st_mode & stat.S_IWOTH or (
            status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getgid())
        )
        if status.st_uid not in (0, os.getuid()) or (shared and not status.st_mode & stat.S_ISVTX):
            return folder
    return None


def is_full(error: OSError) -> bool:
    """Whether it says that there is no space, or none that this user may take."""
    codes = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return error.errno in codes or getattr(error, "winerror", None) == DISK_FULL_ON_WINDOWS
