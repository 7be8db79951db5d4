"""What git is asked, and how: it answers from its objects and its index, and runs no program that
a repository names.

A repository's own configuration can name programs: a monitor of files, hooks, filters, drivers
that show differences, transports. So git is never asked to compare files with what it knows, which
is where filters and drivers run, and all else is switched off for each call
(https://git-scm.com/docs/git-config, https://git-scm.com/docs/git#_environment_variables).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from packlore.errors import BadArgumentError

_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "safe.bareRepository": "explicit",  # one that lies in a clone as plain files is none
    "submodule.recurse": "false",
}
_ENVIRON = {
    "GIT_ALLOW_PROTOCOL": "none",  # an object that is missing is not fetched
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # an object is what its id says
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(folder: Path, *arguments: str) -> bytes:
    """What git answers, asked in a folder. BadArgumentError where it refuses, or is not there."""
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    command = [_program(), "--no-pager", "-C", str(folder), *settings, *arguments]
    try:
        return subprocess.check_output(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ENVIRON},
            timeout=120,
        )
    except OSError as error:
        raise BadArgumentError(f"git cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BadArgumentError(f"git: {said[0] if said else error}") from error
    except subprocess.TimeoutExpired as error:
        raise BadArgumentError("git took over two minutes") from error


def rows(answer: bytes) -> Iterator[str]:
    """The rows of an answer to `-z`: names in it may hold whatever a name may."""
    return (os.fsdecode(each) for each in answer.split(b"\0") if each)


def _program() -> str:
    """Git by its whole path: Windows would look in the current folder first."""
    found = shutil.which("git")
    if not found or not Path(found).is_absolute():
        raise BadArgumentError("this needs git, and there is none on PATH")
    return found
