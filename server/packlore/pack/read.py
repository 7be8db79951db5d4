"""Folder to packs: which files are served, read once as bytes. All file I/O of the server."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from packlore.errors import NoPackError
from packlore.pack.assemble import assemble
from packlore.pack.model import Pack, PackFile, Problem
from packlore.pack.write import is_link

SERVED_FOLDERS = ("rules", "references", "examples", "checklists", "assets")
MAX_FILE = 2 * 1024 * 1024
"""Bytes; a file beyond it is left out. Agents read text of some kilobytes."""
MAX_DEPTH = 8
"""Folders between the folder that is given and a SKILL.md below it, and between rules/ and a
rule."""

_SKIPPED = {"node_modules", "__pycache__", "__pypackages__", "site-packages", "venv"}
_TYPES = {
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".json": "application/json",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".csv": "text/csv",
    ".html": "text/html",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
}


def read(root: Path) -> tuple[Pack, ...]:
    """All packs in `root`: the folder itself where it has a SKILL.md or rules, else every folder
    below it that has a SKILL.md. What is odd in them is in their problems; NoPackError only where
    there is no pack at all."""
    if not root.is_dir():
        raise NoPackError(f"no folder at {root}: give the folder that holds SKILL.md or rules/")
    folders = _folders(root)
    if not folders:
        raise NoPackError(
            f"no pack in {root}: a pack is a folder with SKILL.md, or with rules/*.md"
        )
    return tuple(_read_pack(folder, root) for folder in folders)


def files(root: Path) -> Iterator[Path]:
    """Every file that `read` would look at."""
    for folder in _folders(root):
        yield from _walk(folder, lambda _path, _reason: None)


def _folders(root: Path) -> list[Path]:
    return [root] if _is_pack(root) else list(_nested(root, 0))


def _is_pack(folder: Path) -> bool:
    return _is_file(folder / "SKILL.md") or next((folder / "rules").glob("*.md"), None) is not None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its folder cannot be read
        return False


def _nested(folder: Path, depth: int) -> Iterator[Path]:
    try:
        children = sorted(
            Path(entry)
            for entry in os.scandir(folder)
            if entry.is_dir(follow_symlinks=False)
            and entry.name not in _SKIPPED
            and not is_link(Path(entry))
        )
    except OSError:
        return
    for child in children:
        if _is_file(child / "SKILL.md"):
            yield child
        elif depth < MAX_DEPTH and (not child.name.startswith(".") or child.name == ".agents"):
            yield from _nested(child, depth + 1)


def _read_pack(folder: Path, root: Path) -> Pack:
    files: list[PackFile] = []
    problems: list[Problem] = []

    def refuse(path: Path, reason: str) -> None:
        name = path.relative_to(folder).as_posix()
        problems.append(Problem(_shown(name), 1, "unreadable", f"left out: {reason}"))

    for path in _walk(folder, refuse):
        name = path.relative_to(folder).as_posix()
        read = _read_file(path, name)
        if isinstance(read, Problem):
            problems.append(read)
        else:
            files.append(read)
    place = _shown(folder.relative_to(root).as_posix())
    return assemble(
        tuple(files),
        tuple(problems),
        folder="" if folder == root else place,
        folder_name=_shown(folder.resolve().name),
    )


def _walk(folder: Path, refuse: Callable[[Path, str], None]) -> Iterator[Path]:
    """The served files in a stable order, links among them (to be refused). `refuse`
    is told of the folders that are not looked into."""
    if os.path.lexists(folder / "SKILL.md"):
        yield folder / "SKILL.md"
    for name in SERVED_FOLDERS:
        top = folder / name
        if is_link(top):
            yield top
        elif top.is_dir():
            yield from _below(top, refuse)


def _below(top: Path, refuse: Callable[[Path, str], None]) -> Iterator[Path]:
    """The same below one folder. Not by recursion: folders may lie deeper than Python can go."""
    left = [(top, 0)]
    while left:
        folder, depth = left.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda each: each.name)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                refuse(folder, error.strerror or str(error))
            continue
        folders = []
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            if entry.is_dir(follow_symlinks=False) and not is_link(Path(entry)):
                folders.append((Path(entry), depth + 1))
            elif not entry.name.endswith((".pyc", "~")):
                yield Path(entry)
        if folders and depth == MAX_DEPTH:
            refuse(folder, f"over {MAX_DEPTH} folders within each other")
        else:
            left += reversed(folders)


def _read_file(path: Path, name: str) -> PackFile | Problem:
    try:
        name.encode()
    except UnicodeEncodeError:
        return Problem(_shown(name), 1, "file-name", "left out: its name is not valid UTF-8")
    if not name.isprintable():  # it would forge a line of a log or a list
        return Problem(_shown(name), 1, "file-name", "left out: its name holds control characters")
    try:
        if is_link(path):
            # Nor one that stays in the pack: what it leads to is served by its own name, or lies
            # where nothing is served, as .git/config.
            message = "left out: a link, and none is followed: put its file there itself"
            return Problem(name, 1, "link", message)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Problem(name, 1, "not-a-file", "left out: not a regular file")
        if status.st_size > MAX_FILE:
            size = f"left out: {status.st_size:,} bytes, and at most {MAX_FILE:,} are served"
            return Problem(name, 1, "file-size", size)
        data = path.read_bytes()
    except OSError as error:
        return Problem(name, 1, "unreadable", f"left out: {error.strerror or error}")
    return PackFile(name, data, _mime(path.suffix.lower(), data))


def _shown(name: str) -> str:
    """A name as one line of text, whatever bytes it has."""
    text = name.encode("utf-8", "replace").decode()
    return text if text.isprintable() else ascii(text)[1:-1]


def _mime(suffix: str, data: bytes) -> str:
    """By a table of ours: the `mimetypes` module answers by machine."""
    if suffix in _TYPES:
        return _TYPES[suffix]
    return "application/octet-stream" if b"\0" in data else "text/plain"
