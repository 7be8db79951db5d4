"""Where a file of a pack may be written, and how: a pack is often a clone, and a link in it may
lead anywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
