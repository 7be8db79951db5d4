"""The processes that serve HTTP, as their parent sees them: who takes the place of one that ended,
and when.

uvicorn by itself starts the next one at once, however often the one before could not start: with a
pack that is gone, that would be two processes a second for as long as nobody looks.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass

from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from packlore.serve.drain import refuse_new
from packlore.serve.log import say

LIVED = 60.0
"""Seconds after which a worker counts as one that served: the next takes its place at once."""
LONGEST = 60.0
"""The longest pause before a worker is started, in seconds."""
ATTEMPTS = 5
"""Workers in a row of a place that may end early while no other one serves; then the parent ends, too."""


@dataclass
class Place:
    """The place of one worker: the process that has it, since when, and how many in a row have
    ended early. `due` is when the next one starts, where it has ended. Times are those of the
    monotonic clock."""

    process: Process
    started: float
    early: int = 0
    due: float | None = None

    def ended(self, now: float) -> float:
        """Its worker has ended; answers with the seconds until the next one."""
        self.early = 0 if now - self.started > LIVED else self.early + 1
        pause = 0.0 if self.early < 2 else min(LONGEST, 2.0 ** min(self.early - 2, 30))
        self.due = now + pause
        return pause


class Workers(Multiprocess):
    """uvicorn's workers. Their parent gives its own hold of the listener up, so that the last of
    them closes it: else clients would queue behind nobody. `gave_up` says that none could serve."""

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.places: dict[int, Place] = {}
        self.gave_up = False

    def keep_subprocess_alive(self) -> None:
        """Start a worker for each that has ended: the first time at once, then after pauses that
        double."""
        for number, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            now = time.monotonic()
            place = self.places.get(number)
            if place is None or place.process is not process:  # SIGHUP has put another there
                place = self.places[number] = Place(process, now)
            if place.due is None:
                if self._lives(process, now - place.started):
                    continue
                process.kill()  # where it hangs
                process.join()
                pause = place.ended(now)
                if self._none_serves():
                    say("packlore: no worker could start: the server ends")
                    self.gave_up = True
                    self.should_exit.set()
                    return
                when = f"in {pause:.0f} s" if pause else "now"
                code = f"exit code {process.exitcode}"
                say(f"packlore: a worker has ended ({code}): the next one starts {when}")
            if place.due is not None and place.due <= now:
                self.processes[number] = place.process = Process(self.config, self.sockets)
                place.process.start()
                place.started, place.due = now, None

    def _lives(self, process: Process, seconds: float) -> bool:
        """Whether a worker of that age has neither ended nor hangs. A young one may still be
        starting and is not asked: it could not answer, and who asks waits."""
        if seconds < LIVED:
            return process.exitcode is None
        return process.is_alive(timeout=self.config.timeout_worker_healthcheck)

    def _none_serves(self) -> bool:
        """Whether no worker is left, and in each place so many in a row have ended early."""
        known = [self.places.get(number) for number in range(len(self.processes))]
        return all(
            each is not None and each.due is not None and each.early >= ATTEMPTS for each in known
        )

    def terminate_all(self) -> None:
        """Stop all workers."""
        refuse_new(each.fileno() for each in self.sockets)
        super().terminate_all()
        for each in self.sockets:
            each.close()


def is_worker() -> bool:
    """Whether another process of ours has started this one."""
    return multiprocessing.parent_process() is not None


def end_with_parent() -> None:
    """In a worker: stop when the process that started it is gone, however it went. Else workers
    would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent").start()
