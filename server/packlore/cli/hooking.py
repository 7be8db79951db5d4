"""`packlore hook`: what a client runs after each edit of its agent.

It says nothing where there is nothing, tells each finding once in a session, and never fails: what
goes wrong here must not stand in the way of somebody's work.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from packlore.check import (
    Finding,
    Level,
    edits,
    files,
    language_of,
    matches,
    report,
    run,
    settings,
    sources,
)
from packlore.cli import terminal
from packlore.library import Library
from packlore.locate import locate
from packlore.project import LOCKS

MAX_INPUT = 4 * 1024 * 1024
"""Characters that a client may send: the edit and what its tool answered."""
MAX_TOLD = 8
"""Findings of one answer."""
MAX_KNOWN = 2_000
"""Findings of one session that are remembered."""
MAX_MEMORY = 1024 * 1024
"""Bytes of what is remembered of a session."""
MAX_AGE = 30 * 24 * 3600.0
"""Seconds for which it is remembered."""
MANIFESTS = (
    *LOCKS,
    "pyproject.toml",
    "requirements*.txt",
    "requirements/*.txt",
    "Pipfile",
    "setup.cfg",
    "setup.py",
    "environment.y*ml",
    "package.json",
)
"""Where a project says what it depends on."""


MAX_MANIFESTS, MAX_MANIFEST = 40, 8 * 1024 * 1024
"""Files of those that are looked at, and bytes of one."""


def hook(arguments: argparse.Namespace) -> int:
    """`packlore hook`: reads what a client sends on stdin; answers 0, whatever happens."""
    try:
        said = _said(json.loads(sys.stdin.read(MAX_INPUT)), arguments.pack)
    except Exception as error:  # noqa: BLE001 - see above
        terminal.tell(f"packlore: {type(error).__name__}: {error}")
        return 0
    if said:
        terminal.plain(json.dumps(said) + "\n")
    return 0


def _said(given: object, packs: list[str]) -> dict[str, object] | None:
    call = edits.call(given)
    if call is None:
        return None
    folder = Path(call.folder or ".").absolute()
    own = settings.load(folder)
    if not own.hook:
        return None
    library = Library.open(locate(packs))
    languages = {each.language for each in library.detectors.all}
    found: list[Finding] = []
    for edit in call.edits:
        place = Path(folder, edit.path)
        path = sources.shown(place, own.root)
        if language_of(path) in languages and not matches(path, own.exclude):
            found += _in(sources.Source(place, path), edit, library)
    level = own.min_level or Level.ERROR
    ignored = {*own.ignore}
    found = [each for each in found if each.level >= level and each.rule not in ignored]
    if not found or not _depends(own.root, library):
        return None
    new = _new(call.session, found)
    return edits.answer(call, _text(new)) if new else None


def _in(source: sources.Source, edit: edits.Edit, library: Library) -> list[Finding]:
    """The findings in the lines of an edit."""
    text = sources.read(source)
    if not isinstance(text, str):
        return []
    lines = edits.changed(text, edit)
    checked = run.one(source, library.detectors)
    return [each for each in checked.findings if lines is None or each.line in lines]


def _text(found: list[Finding]) -> str:
    rows = [
        f"- {report.brief(each.path)}:{each.line}, {each.rule}: {each.message}. Do: {each.note}"
        for each in found[:MAX_TOLD]
    ]
    if len(found) > MAX_TOLD:
        rows.append(f"- and {len(found) - MAX_TOLD} more: packlore check")
    rules = ", ".join(dict.fromkeys(each.rule for each in found[:MAX_TOLD]))
    return "\n".join(["What was just written breaks a rule:", *rows, f"read_rules: {rules}"])


def _depends(root: Path, library: Library) -> bool:
    """Whether a project names a library that the rules are about; rules of none are about all."""
    names = {name for entry in library.rules() for name in getattr(entry.item, "applies", ())}
    names -= {"python"}
    if not names:
        return True
    known = re.compile(
        rf"(?<![\w.-])(?:{'|'.join(map(re.escape, sorted(names)))})(?![\w-])", re.IGNORECASE
    )
    found = (path for glob in MANIFESTS for path in root.glob(glob))
    return any(known.search(_manifest(path)) for path in islice(found, MAX_MANIFESTS))


def _manifest(path: Path) -> str:
    with suppress(OSError):
        return files.whole(path, MAX_MANIFEST).decode("utf-8", "replace")
    return ""


def _new(session: str, found: Iterable[Finding]) -> list[Finding]:
    """The findings of which this session has not been told, which it now has. Without a memory
    each is told again, which is better than not at all."""
    if not session:
        return list(found)
    try:
        return _remembered(_own(_cache()), session, found)
    except OSError:
        return list(found)


def _remembered(folder: Path, session: str, found: Iterable[Finding]) -> list[Finding]:
    place = folder / f"{hashlib.sha256(session.encode('utf-8', 'replace')).hexdigest()[:24]}.json"
    known: list[str] = []
    with suppress(OSError, ValueError, TypeError, RecursionError):
        known = [str(each) for each in json.loads(files.whole(place, MAX_MEMORY))]
    told = set(known)
    new = [each for each in found if _key(each) not in told]
    if new:
        known = [*known, *map(_key, new)][-MAX_KNOWN:]
        with suppress(OSError):
            fresh = place.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(known), encoding="utf-8")
            fresh.replace(place)
            _forget(folder)
    return new


def _forget(folder: Path) -> None:
    """Take out what sessions of long ago were told."""
    for each in folder.iterdir():
        if time.time() - each.lstat().st_mtime > MAX_AGE:
            each.unlink()


def _cache() -> Path:
    """The user's folder for what may be lost. OSError where none is known."""
    if os.name == "nt":
        names = [os.environ.get("LOCALAPPDATA", "")]
    elif sys.platform == "darwin":
        names = [os.path.expanduser("~/Library/Caches")]  # noqa: PTH111 - it never raises
    else:
        home = os.path.expanduser("~/.cache")  # noqa: PTH111
        names = [os.environ.get("XDG_CACHE_HOME", ""), home]
    for each in names:
        if os.path.isabs(each):  # noqa: PTH117
            return Path(each, "packlore", "hook")
    raise FileNotFoundError(errno.ENOENT, "no folder of the user's own")


def _own(folder: Path) -> Path:
    """The folder, made where it is not there. OSError where it is a link, or others may write into
    it or own it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder, folder.parent):
        seen = each.lstat()
        mine = not hasattr(os, "getuid") or (
            seen.st_uid == os.getuid() and not seen.st_mode & 0o022
        )
        if not stat.S_ISDIR(seen.st_mode) or not mine:
            raise PermissionError(errno.EPERM, "not a folder of the user's own")
    return folder


def _key(finding: Finding) -> str:
    said = f"{finding.path}\n{finding.rule}\n{finding.code}"
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
