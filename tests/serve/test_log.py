"""What is logged becomes lines, and costs whoever logs nothing."""

from __future__ import annotations

import logging

import pytest

from packlore.serve import log


class NoFileCanBeOpened(logging.Formatter):
    def formatException(self, ei: object) -> str:  # noqa: N802 the name of the base class
        raise OSError(24, "Too many open files")


@pytest.mark.parametrize(
    ("message", "arguments", "said"),
    [
        ("no room", (), "packlore: ERROR no room ([Errno 24] Too many open files)"),
        ("no %s", ("room",), "packlore: ERROR no %s ('room',) ([Errno 24] Too many open files)"),
    ],
)
def test_a_record_whose_traceback_cannot_be_had_is_said_without_it(
    message: str, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "say", lines.append)
    handler = log.Lines()
    handler.setFormatter(NoFileCanBeOpened())
    failed = (OSError, OSError(), None)
    handler.handle(logging.LogRecord("a", logging.ERROR, "a.py", 1, message, arguments, failed))
    assert lines == [said]
