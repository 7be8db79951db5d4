"""Logs as people read them."""

from __future__ import annotations

import logging

import pytest


def text_log(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The lines that a text file would hold of what the logger `name` has written."""
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
    texts = [formatter.format(record) for record in caplog.records if record.name == name]
    return "\n".join(texts).split("\n")
