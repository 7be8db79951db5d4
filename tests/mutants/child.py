"""The child of a run: the tests of a proof, until the first that notices what was changed."""

from __future__ import annotations

import json
import linecache
import re
from collections.abc import Generator, Sequence
from typing import IO, Any

import pytest


class Child:
    """What runs in the child: the tests, until the first fails."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._failed = ""

    def say(self, **what: Any) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo and report.failed and not _of_the_text(call.excinfo):
            self._failed = " ".join(f"{call.excinfo.typename}: {call.excinfo.value}".split())[:200]
        return report

    def run(self, session: pytest.Session, items: Sequence[pytest.Item]) -> None:
        session.config.pluginmanager.register(self)
        for index, item in enumerate(items):
            self.say(test=item.name)
            following = items[index + 1] if index + 1 < len(items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                self.say(failed=item.name, why=self._failed)
                return
        self.say(green=True)


def _of_the_text(error: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether a test only noticed that a line of the block reads differently."""
    entry = error.traceback[-1]
    line = linecache.getline(str(entry.path), entry.lineno + 1)
    return error.errisinstance(AssertionError) and bool(re.search(r"\.code\b(?!\.replace)", line))
