"""Runs `packlore` as a person does: in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from packlore import cli

SERVER = str(Path(cli.__file__).parents[2])
SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What colours and bold letters are made of, and what moves a cursor."""
SECONDS = 60


class Terminal:
    """A program that runs in a terminal of `columns` columns."""

    def __init__(
        self, command: list[str], environ: Mapping[str, str] | None = None, columns: int = 80
    ) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "COLUMNS", "LINES", "COLORTERM", "FORCE_COLOR")
        }
        kept |= {"TERM": "xterm-256color", "PYTHONPATH": SERVER, **(environ or {})}
        self.said = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execvpe(command[0], command, kept)

    def until(self, wanted: str) -> str:
        """What it said by the time that `wanted` stands in it."""
        end = time.monotonic() + SECONDS
        while wanted not in self.said:
            assert time.monotonic() < end, self.said
            assert self._read(), self.said
        return self.said

    def type(self, keys: str) -> None:
        """What a person types."""
        os.write(self._terminal, keys.encode())

    def end(self) -> tuple[int, str]:
        """Its exit code, or the signal that ended it below zero, and all that it said."""
        end = time.monotonic() + SECONDS
        while self._read():
            assert time.monotonic() < end, self.said
        _, status = os.waitpid(self.pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status), self.said.replace("\r\n", "\n")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], SECONDS)
        if not ready:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux says so where the program has ended
            return False
        self.said += data.decode("utf-8", "replace")
        return bool(data)


def at_terminal(
    *arguments: str, columns: int = 80, environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and output of `packlore` in a terminal."""
    command = [sys.executable, "-m", "packlore", *arguments]
    return Terminal(command, environ, columns).end()
