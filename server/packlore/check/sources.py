"""Which files are checked, and their text. All reading of code is here."""

from __future__ import annotations

import codecs
import io
import json
import os
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packlore.check.files import whole
from packlore.check.git import git, rows
from packlore.check.model import Trouble
from packlore.check.places import matches
from packlore.check.syntax import language_of
from packlore.errors import BadArgumentError

MAX_FILE = 512 * 1024
"""Bytes of a file of code. People write modules of up to 450 KB by hand;
larger ones were written by a program."""
ENCODINGS = frozenset(
    {"ascii", "utf-8", "utf-8-sig", "big5", "cp437", "cp850", "cp866", "cp932", "cp949"}
    | {"euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "koi8-r", "koi8-u", "mac-roman"}
    | {
        "shift_jis",
        *(f"iso8859-{n}" for n in range(1, 17) if n != 12),
        *(f"cp125{n}" for n in range(9)),
    }
)
"""In which code is read, by the names that `codecs` gives them: of one that a comment names some
take the square of a text, such as punycode, and some read what Python would run otherwise."""
SKIPPED = frozenset(
    {"node_modules", "__pycache__", "__pypackages__", "site-packages", "venv", "build", "dist"}
)
"""Folders of code that somebody else wrote."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to check: its place, and what it is called in findings, with `/`. `data` is given
    where it is not what lies there, as with what is staged."""

    place: Path
    path: str
    data: bytes | None = None


def sources(
    given: Sequence[Path],
    root: Path,
    languages: Iterable[str],
    exclude: tuple[str, ...] = (),
    *,
    with_git: bool = True,
) -> Iterator[Source | Trouble]:
    """The files below what is given, in a stable order, each once: of a folder those in languages
    that are asked for, which git does not ignore, and that no glob excludes. Without git those of
    hidden folders, of virtual environments and of SKIPPED are left out instead. A file that is
    named itself is always meant. BadArgumentError for what is not there."""
    known = frozenset(languages)
    seen: set[str] = set()
    for start in given:
        if not start.exists():
            raise BadArgumentError(f"nothing at {start}: give files or folders of code")
        found = [start] if start.is_file() else sorted(_files(start, with_git))
        for place in found:
            path = shown(place, root)
            wanted = place == start or language_of(path) in known
            if not wanted or path in seen or (place != start and matches(path, exclude)):
                continue
            seen.add(path)
            if place != start and place.is_symlink() and not _is_inside(place, start):
                yield Trouble(path, "not checked: a link that leaves the folder")
            else:
                yield Source(place, path)


def shown(place: Path, root: Path) -> str:
    """How a file is called: from `root` where it lies below it."""
    whole = Path(os.path.abspath(place))  # noqa: PTH100 - `resolve` would follow links
    with suppress(ValueError):
        return whole.relative_to(root).as_posix()
    return whole.as_posix()


def read(source: Source) -> str | Trouble:
    """The text of a file, or why it is not checked."""
    if source.data is not None:
        if len(source.data) > MAX_FILE:
            return Trouble(source.path, f"not checked: over {MAX_FILE:,} bytes")
        return text_of(source.path, source.data)
    try:
        data = whole(source.place, MAX_FILE)
    except OSError as error:
        return Trouble(source.path, f"not checked: {error.strerror or error}")
    return text_of(source.path, data)


def text_of(path: str, data: bytes) -> str | Trouble:
    """The text in the bytes of a file: by the encoding that Python code names, else UTF-8."""
    if b"\0" in data:
        return Trouble(path, "not checked: it holds a NUL byte")
    python = path.endswith((".py", ".pyi"))
    try:
        name = tokenize.detect_encoding(io.BytesIO(data).readline)[0] if python else "utf-8-sig"
        if codecs.lookup(name).name not in ENCODINGS:
            return Trouble(path, f"not checked: its encoding is {name[:40]}")
        text = data.decode(name)
    except (SyntaxError, LookupError, ValueError) as error:
        return Trouble(path, f"not checked: {' '.join(str(error).split())[:120]}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _cells(path, text) if path.endswith(".ipynb") else text


def _cells(path: str, text: str) -> str | Trouble:
    """The code of a notebook, cell after cell; lines that are commands of IPython are blank."""
    try:
        cells = json.loads(text)["cells"]
        code = ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return Trouble(path, f"not checked: no notebook ({type(error).__name__})")
    rows = "\n\n".join(code).split("\n")
    return "\n".join("" if row.lstrip().startswith(("%", "!")) else row for row in rows)


def _is_inside(place: Path, folder: Path) -> bool:
    try:
        return place.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself, or to nothing
        return False


def _files(folder: Path, with_git: bool) -> Iterator[Path]:
    tracked = _tracked(folder) if with_git else None
    if tracked is not None:
        yield from (folder / each for each in tracked)
        return
    left = [folder]
    while left:
        try:
            entries = list(os.scandir(left.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                hidden = entry.name.startswith(".") or entry.name in SKIPPED
                if not hidden and not Path(entry.path, "pyvenv.cfg").exists():
                    left.append(Path(entry.path))
            elif entry.is_symlink() or entry.is_file():
                yield Path(entry.path)


def _tracked(folder: Path) -> list[str] | None:
    """What git tracks below a folder, or would; None where there is no git or no repository."""
    try:
        found = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except BadArgumentError:
        return None
    return [each for each in dict.fromkeys(rows(found)) if os.path.lexists(folder / each)]
