"""What has changed, by git: the lines that a check with --diff or --staged looks at."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packlore.errors import BadArgumentError

_HUNK = re.compile(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_FILE = re.compile(rb"^\+\+\+ (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Changes:
    """The root of the repository, and the changed lines of each file, by its path there."""

    root: Path
    lines: Mapping[str, frozenset[int]]


def since(reference: str, folder: Path) -> Changes:
    """What differs between the files now and a commit; files that git does not know yet are new.
    BadArgumentError where there is no such commit, or no git."""
    if reference.startswith("-"):
        raise BadArgumentError(f"--diff {reference}: give a commit, a branch or a tag")
    root = _root(folder)
    lines = dict(_lines(_git(root, "diff", *_PLAIN, reference, "--")))
    for name in _names(_git(root, "ls-files", "-z", "--others", "--exclude-standard")):
        lines[name] = _EVERY
    return Changes(root, lines)


def staged(folder: Path) -> Changes:
    """What the next commit would change."""
    root = _root(folder)
    return Changes(root, dict(_lines(_git(root, "diff", "--cached", *_PLAIN, "--"))))


def staged_bytes(root: Path, path: str) -> bytes:
    """A file as the next commit would have it."""
    return _git(root, "show", f":{path}")


class _Every(frozenset[int]):
    """All lines of a new file."""

    def __contains__(self, _line: object) -> bool:
        return True


_EVERY = _Every()
_PLAIN = (
    "-U0",
    "--no-color",
    "--no-ext-diff",
    "--no-renames",
    "--diff-filter=d",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


def _root(folder: Path) -> Path:
    return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\r\n")))


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.check_output(command, stderr=subprocess.PIPE, timeout=120)
    except FileNotFoundError as error:
        raise BadArgumentError("--diff and --staged need git, and there is none") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BadArgumentError(f"git: {said[0] if said else error}") from error
    except subprocess.TimeoutExpired as error:
        raise BadArgumentError("git took over two minutes") from error


def _names(found: bytes) -> Iterator[str]:
    return (os.fsdecode(each) for each in found.split(b"\0") if each)


def _lines(diff: bytes) -> Iterator[tuple[str, frozenset[int]]]:
    """The files of a diff without context, and the lines that are new in each."""
    heads = list(_FILE.finditer(diff))
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(diff)
        changed: set[int] = set()
        for hunk in _HUNK.finditer(diff, head.end(), end):
            start, count = int(hunk[1]), int(hunk[2] or 1)
            changed |= set(range(start, start + count))
        name = os.fsdecode(_unquoted(head[1].rstrip(b"\t\r")))
        if name.startswith("b/") and changed:
            yield name[2:], frozenset(changed)


def _unquoted(name: bytes) -> bytes:
    """A name that git has put in quotes, since it holds a quote or a control character."""
    if not name.startswith(b'"'):
        return name
    inner = name[1:-1].decode("latin-1")
    return inner.encode("latin-1").decode("unicode_escape").encode("latin-1")
