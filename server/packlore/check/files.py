"""How files of somebody else are read: regular ones, and no more of them than is asked for."""

from __future__ import annotations

import errno
from pathlib import Path


def whole(place: Path, most: int) -> bytes:
    """The bytes of a file. OSError where it is no regular file, or has over `most` bytes: what
    says that it is empty may be endless, as in `/proc`."""
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with place.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"over {most:,} bytes")
    return data
