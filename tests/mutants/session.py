"""One pytest session for all mutants of a rule: each runs the collected tests in a forked child.

The interpreter, the libraries, the collection and the servers are paid for once. `serve` is called
in a process of its own and writes one line of JSON for each result.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from tests.conftest import RUNNING, running
from tests.mutants.child import Child
from tests.services import Server, ServiceMissing

Report = Callable[..., None]
# Seconds for a test, and times what it took with the block as it stands. Where others want the
# processors too, both grow with them: a slow machine has killed no mutant.
FLOOR, FACTOR = 4.0, 5.0
SLOW = 2.0  # seconds: a test that took so long to fail is not asked first again


@dataclass(slots=True)
class Ended:
    """How a child ended. `test` is the one that failed, and `why` its error in one line."""

    green: bool = False
    test: str = ""
    why: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def slow(self) -> bool:
        return self.seconds.get(self.test, SLOW) >= SLOW


class Mutation:
    """The plugin: gives each code to the tests in turn, the block as it stands first."""

    def __init__(self, codes: Sequence[str], report: Report, folder: Path) -> None:
        self._codes = codes
        self._report = report
        self._folder = folder
        self._child: int | None = None
        self._stack = ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        if session.testsfailed or not items:
            self._report(broken="its proof cannot be collected, or no test takes the block")
            return True
        seconds: dict[str, float] = {}
        gc.collect()
        gc.freeze()  # what is here now is not looked at in the children
        try:
            for index, code in enumerate(self._codes):
                self._start(session, items)
                ended = self._fork(session, items, code, seconds)
                if index == 0:
                    if not ended.green:
                        self._report(broken=f"its proof is red: {ended.test}: {ended.why}")
                        return True
                    seconds = ended.seconds
                elif killers := [item for item in items if item.name == ended.test]:
                    items.remove(killers[0])
                    items.insert(len(items) if ended.slow else 0, killers[0])
                self._report(index=index, green=ended.green, test=ended.test, why=ended.why)
        except ServiceMissing as missing:
            self._report(broken=f"ServiceMissing: {missing}")
        finally:
            self._kill()
            self._close()
        return True

    def _start(self, session: pytest.Session, items: Sequence[pytest.Item]) -> None:
        """Open the session's fixtures that are servers; anew where a mutant has ended one."""
        open_now = session.config.stash.setdefault(RUNNING, {})
        if open_now and all(server.running for server in open_now.values()):
            return
        self._close()
        open_now.clear()
        self._stack = ExitStack()

        fixtures = {
            name: session._fixturemanager.getfixturedefs(name, session)
            for item in items
            for name in getattr(item, "fixturenames", ())
        }

        def opened(name: str) -> Any:
            if name not in open_now:
                fixture = (fixtures[name] or ())[-1]
                request = SimpleNamespace(config=session.config, fixturename=name)
                needs = [each for each in fixture.argnames if each != "request"]
                given = {each: opened(each) for each in needs}
                opening: Any = contextmanager(fixture.func)
                open_now[name] = self._stack.enter_context(opening(request=request, **given))
            return open_now[name]

        for name, found in fixtures.items():
            if found and _is_server(found[-1]):
                opened(name)

    def _close(self) -> None:
        self._stack.close()

    def _fork(
        self,
        session: pytest.Session,
        items: Sequence[pytest.Item],
        code: str,
        seconds: dict[str, float],
    ) -> Ended:
        path = self._folder / "block.py"
        path.write_text(code, "utf-8")
        config = session.config
        config.option.correct = str(path)
        reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.setpgid(0, 0)
                os.close(reading)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                for server in config.stash[RUNNING].values():
                    server.inherited()
                with open(writing, "w") as out:  # noqa: PTH123
                    Child(out).run(session, items)
            finally:
                os._exit(0)
        with suppress(OSError):
            os.setpgid(self._child, self._child)
        os.close(writing)
        try:
            return self._follow(reading, config.stash[RUNNING], seconds)
        finally:
            os.close(reading)
            self._kill()
            shutil.rmtree(self._folder / "tmp", ignore_errors=True)

    def _follow(self, reading: int, servers: dict[str, Any], limits: dict[str, float]) -> Ended:
        """Read what the child says, until it ends or a test takes too long."""
        ended = Ended(why="the tests ended without a word")
        left, began = b"", time.monotonic()
        while True:
            ready, _, _ = select.select([reading], [], [], 0.05)
            for server in servers.values():
                _ = server.running  # waits for what a test has stopped
            took = time.monotonic() - began
            limit = 120.0
            if ended.test in limits:
                limit = max(FLOOR, FACTOR * limits[ended.test]) * _share()
            if not ready and took > limit:
                ended.why = f"took more than {limit:.0f} s"
                return ended
            if not ready:
                continue
            read = os.read(reading, 65536)
            if not read:
                return ended
            *lines, left = (left + read).split(b"\n")
            for said in map(json.loads, lines):
                if ended.test:
                    ended.seconds[ended.test] = time.monotonic() - began
                if "test" in said:
                    ended.test, began = said["test"], time.monotonic()
                elif "failed" in said:
                    ended.test, ended.why = said["failed"], said["why"]
                    return ended
                else:
                    ended.green, ended.test, ended.why = True, "", ""
                    return ended

    def _kill(self) -> None:
        """End the child and whatever it has started."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = None


def _share() -> float:
    """How many processes want each processor now, from 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _is_server(fixture: Any) -> bool:
    """Whether a fixture is one of the servers that `running` gives."""
    if fixture.scope != "session" or fixture.func.__module__ != running.__module__:
        return False
    given = get_args(get_type_hints(fixture.func).get("return"))
    return bool(given) and isinstance(given[0], type) and issubclass(given[0], Server)


def serve(proof: Path, codes: Sequence[str], out: int) -> None:
    """Run the tests of a proof with each of the codes; the first is the block as it stands."""
    folder = Path(tempfile.mkdtemp(prefix="packlore-mutants-"))

    def report(**what: Any) -> None:
        os.write(out, json.dumps(what).encode() + b"\n")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        (folder / "block.py").write_text(codes[0], "utf-8")
        options = ["-q", "--capture=no", "--tb=no", "-o", f"cache_dir={folder / 'cache'}"]
        options += [f"--correct={folder / 'block.py'}", f"--basetemp={folder / 'tmp'}"]
        # anyio is a plugin, too, and was imported before.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        ended = pytest.main([str(proof), *options], plugins=[Mutation(codes, report, folder)])
        if ended not in (0, 1, 5):
            report(broken=(folder / "log").read_text("utf-8", "replace")[-2000:])
    except BaseException:
        report(broken=traceback.format_exc()[-2000:])
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
