"""Gives targets made-up inputs until the time is over, and keeps those that break one."""

from __future__ import annotations

import hashlib
import itertools
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

Check = Callable[[Any], None]

EXAMPLES = 150
"""Inputs that a target is given before it is the next one's turn."""
LEAST = 3
"""Inputs that each target is given however short the time."""
SLOW = 10.0
"""Seconds of this process for one input; its inputs have up to some hundred kilobytes."""
HANGS = 120
"""Seconds after which an input is given up."""
SHRINKING = 60.0
"""Seconds that an input has to be made smaller."""


class Slow(AssertionError):
    """An input took too long."""


@dataclass(frozen=True)
class Target:
    """What is tried. `open` gives the function that raises for an input that does harm: most
    need nothing that is opened, and stand there as `Target.of` has it."""

    inputs: st.SearchStrategy[Any]
    open: Callable[[], AbstractContextManager[Check]]

    @classmethod
    def of(cls, inputs: st.SearchStrategy[Any], check: Check) -> Target:
        """A target of one function."""
        return cls(inputs, lambda: nullcontext(check))


@dataclass(frozen=True)
class Finding:
    """An input that broke a target, the smallest that was found, and how."""

    target: str
    place: str
    value: str
    trace: str


@dataclass
class Outcome:
    """What a run has done: inputs and the slowest of them, in seconds, by target, and findings."""

    seed: int
    tried: dict[str, int] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def run(targets: Mapping[str, Target], *, seconds: float, chosen: int, folder: Path) -> Outcome:
    """Try the targets in turns for `seconds`, and write findings into `folder`."""
    outcome = Outcome(chosen, dict.fromkeys(targets, 0), dict.fromkeys(targets, 0.0))
    end = time.monotonic() + seconds
    for turn in itertools.count():
        for name, target in targets.items():
            if turn and time.monotonic() > end:
                return outcome
            found = _Turn(name, outcome, end, folder).take(target, f"{chosen}-{turn}-{name}")
            if found:
                outcome.findings.append(found)
                _keep(found, chosen, folder)
    return outcome


@dataclass
class _Turn:
    """Some inputs for one target."""

    name: str
    outcome: Outcome
    end: float
    folder: Path
    tried: int = 0
    last: Finding | None = None
    since: float = 0.0

    def take(self, target: Target, chosen: str) -> Finding | None:
        """Try it; the finding, if it is a new one."""
        known = {each.place for each in self.outcome.findings if each.target == self.name}
        try:
            with target.open() as check:

                @settings(  # above `seed`, which would take the database away
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=DirectoryBasedExampleDatabase(self.folder / "examples" / self.name),
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.reuse, Phase.generate, Phase.shrink),
                    report_multiple_bugs=False,
                )
                @seed(chosen)
                @given(target.inputs)
                def attempt(value: Any) -> None:
                    self._try(check, value, known)

                attempt()
        except Exception:
            if self.last is None:
                raise  # a fault of the target itself
        return self.last

    def _try(self, check: Check, value: Any, known: set[str]) -> None:
        now = time.monotonic()
        if self.last and now > self.since + SHRINKING:
            return
        if not self.last and self.tried >= LEAST and now > self.end:
            return
        self.tried += not self.last
        self.outcome.tried[self.name] += not self.last
        begin = time.process_time()
        try:
            with _alarm():
                check(value)
            spent = time.process_time() - begin
            self.outcome.slowest[self.name] = max(self.outcome.slowest[self.name], spent)
            assert spent < SLOW, f"{spent:.1f} s"
        except Exception as error:
            place = _place(error)
            if place in known:
                return
            self.since = self.since or now
            self.last = Finding(self.name, place, repr(value), traceback.format_exc())
            raise


@contextmanager
def _alarm() -> Iterator[None]:
    """Slow, where the body does not end; on POSIX alone."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(_number: int, _frame: Any) -> None:
        raise Slow(f"no end within {HANGS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _place(error: Exception) -> str:
    """Where an error comes from: two inputs that break one line are one finding."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((each for each in reversed(frames) if "packlore" in each.filename), frames[-1])
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _keep(found: Finding, chosen: int, folder: Path) -> None:
    name = hashlib.sha256(f"{found.place}{found.value}".encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    text = f"seed {chosen}\n{found.target}: {found.place}\n\n{found.value}\n\n{found.trace}"
    (folder / f"{found.target.replace(' ', '-')}-{name}.txt").write_text(
        text, encoding="utf-8", errors="backslashreplace"
    )
