"""Where a file of a pack may be written, and how: a pack is often a clone, and a link in it may
lead anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from packlore.errors import PackError

_JUNCTION = 0xA0000003
"""IO_REPARSE_TAG_MOUNT_POINT, the link to a folder that Windows lets everybody make:
https://learn.microsoft.com/windows/win32/fileio/reparse-point-tags."""


def is_link(path: Path) -> bool:
    """Whether the path itself is a link, wherever it leads; False where there is nothing."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """PackError where a part of a path is a link, of the paths `names` in `folder`. The folder
    itself may be one: its user has named it."""
    for name in names:
        path = folder
        for part in Path(name).parts:
            path /= part
            if is_link(path):
                raise PackError(f"{path} is a link: nothing was written, for it may lead anywhere")


def replace(path: Path, data: bytes) -> None:
    """Write the file anew, whole or not at all: a file that has a second name elsewhere, by a hard
    link, stays there as it was."""
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with new.open("xb") as file:
            file.write(data)
        if path.exists():
            new.chmod(stat.S_IMODE(path.stat().st_mode))
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
