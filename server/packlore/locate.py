"""Which folders are meant when a pack is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from packlore.errors import BadArgumentError, NoPackError

VARIABLE = "PACKLORE_PACK"
"""Names folders, separated as in PATH, where no `--pack` is given."""
SKILL = "python-backend"


def locate(given: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The folders to read: `given`, else PACKLORE_PACK, else the pack inside the installed
    package, else the folder that holds `server/`. NoPackError where there is none of them."""
    chosen = [each for each in given if each] or [
        each for each in environ.get(VARIABLE, "").split(os.pathsep) if each
    ]
    if chosen:
        return tuple(dict.fromkeys(map(home, chosen)))
    package = Path(__file__).resolve().parent
    for own in (package / ".agents" / "skills" / SKILL, package.parent.parent):
        if (own / "SKILL.md").is_file():
            return (own,)
    raise NoPackError(f"no pack: name its folder with --pack DIR or {VARIABLE}")


def home(given: str) -> Path:
    """The path with a leading `~` or `~user` filled in. BadArgumentError for a user without a
    home, or one that this machine does not know."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        user = given.replace("\\", "/").partition("/")[0]
        raise BadArgumentError(
            f"{given}: no home of {user} is known here; give the folder in full"
        ) from None
