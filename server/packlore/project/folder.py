"""Which files of a project say what is installed, and their text. All I/O of this package.

What is broken, too large, no text, no regular file or a link out of the project is passed over, as
if it were not there: an answer never fails for somebody's lock.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from packlore.project import locks
from packlore.project.locks import Packages

LOCKS: dict[str, Callable[[str, str], Packages]] = {
    "uv.lock": locks.toml,
    "poetry.lock": locks.toml,
    "pdm.lock": locks.toml,
    "pylock.toml": locks.toml,
    "Pipfile.lock": locks.pipenv,
}
"""Who reads each lock; of several in a folder the first counts."""
ASKING = "pyproject.toml"
PYTHON = ".python-version"
FOLDER = "requirements"
MAX_LOCK = 8 * 1024 * 1024
"""Bytes of a lock; the largest that were seen have two million."""
MAX_FILE = 256 * 1024
"""Bytes of what people write: requirements and pyproject.toml."""
MAX_FILES = 20
"""Files of requirements in one folder."""
_REQUIREMENTS = re.compile(r"requirements[\w.-]{0,40}\.txt", re.ASCII)
_BELOW = re.compile(r"[\w.-]{1,40}\.txt", re.ASCII)


class Project:
    """The project that a folder belongs to: from there up to the root of its repository or the
    user's home, and no further; a folder below neither is looked at alone."""

    def __init__(self, folder: Path) -> None:
        self._folders = _folders(folder)

    def known(self, names: Iterable[str]) -> Packages:
        """What is known of these packages, by their names of PEP 503. `python` is the interpreter:
        the version in .python-version, else the range that pyproject.toml asks for."""
        wanted = set(names)
        found: Packages = {}
        if wanted - {"python"}:
            found = self._nearest(_locked) or self._nearest(_asked)
        if "python" in wanted:
            own = self._nearest(_python) or self._nearest(_asks)
            found = {**found, "python": own["python"]} if "python" in own else found
        return {name: found[name] for name in wanted if name in found}

    def _nearest(self, look: Callable[[Path, Path], Packages]) -> Packages:
        top = self._folders[-1]
        return next(filter(None, (look(each, top) for each in self._folders)), {})


def _folders(folder: Path) -> Sequence[Path]:
    try:
        folder, home = folder.resolve(), Path.home().resolve()
    except (OSError, RuntimeError):  # a folder that is gone, a user without a home
        return (folder,)
    above = (folder, *folder.parents)
    for number, each in enumerate(above):
        if each == home or os.path.lexists(each / ".git"):
            return above[: number + 1]
    return (folder,)


def _locked(folder: Path, top: Path) -> Packages:
    for name, parse in LOCKS.items():
        if found := _read(folder, name, top, parse, MAX_LOCK):
            return found
    found = _required(folder, top)
    return found if any(each.versions for each in found.values()) else {}


def _asked(folder: Path, top: Path) -> Packages:
    return {**_required(folder, top), **_asks(folder, top)}


def _asks(folder: Path, top: Path) -> Packages:
    return _read(folder, ASKING, top, locks.project, MAX_FILE)


def _python(folder: Path, top: Path) -> Packages:
    return _read(folder, PYTHON, top, locks.python, MAX_FILE)


def _required(folder: Path, top: Path) -> Packages:
    """All files of requirements in one; of a package the first counts, and a pin before a range."""
    files = [
        *_names(folder, _REQUIREMENTS),
        *(f"{FOLDER}/{n}" for n in _names(folder / FOLDER, _BELOW)),
    ]
    found: Packages = {}
    for file in files[:MAX_FILES]:
        for name, known in _read(folder, file, top, locks.requirements, MAX_FILE).items():
            if name not in found or (known.versions and not found[name].versions):
                found[name] = known
    return found


def _names(folder: Path, form: re.Pattern[str]) -> Iterator[str]:
    """The names of that form in a folder, the shortest first."""
    try:
        names = [each.name for each in folder.iterdir()]
    except OSError:
        return iter(())
    return iter(sorted(filter(form.fullmatch, names), key=lambda each: (len(each), each)))


def _read(
    folder: Path, name: str, top: Path, parse: Callable[[str, str], Packages], most: int
) -> Packages:
    place = folder / name
    try:
        status = place.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return {}
        if not place.resolve().is_relative_to(top):
            return {}
        return _parsed(place, name, parse, most, status.st_mtime_ns, status.st_size)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        return {}


@lru_cache(maxsize=64)
def _parsed(
    place: Path,
    name: str,
    parse: Callable[[str, str], Packages],
    most: int,
    _changed: int,
    _size: int,
) -> Packages:
    """Read again only where the time or the size has changed: a server is asked often."""
    with place.open("rb") as file:
        data = file.read(most)
    try:
        return parse(data.decode("utf-8-sig"), name)
    except (ValueError, RecursionError):
        return {}
