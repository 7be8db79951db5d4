"""Runs the mutants of several rules, each rule in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.mutants.generate import Mutant
from tests.mutants.records import Subject

# Imported once, so that the processes of all rules begin with them.
LIBRARIES = (
    "aiohttp",
    "alembic.command",
    "asyncpg",
    "fastapi.middleware.cors",
    "httpx",
    "prometheus_client",
    "psycopg",
    "pydantic_settings",
    "pytest",
    "redis.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "uvicorn",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant: `test` is the one that noticed it, and `why` its error."""

    subject: Subject
    mutant: Mutant
    killed: bool
    test: str
    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule whose proof could not be run."""

    subject: Subject
    why: str


@dataclass(frozen=True, slots=True)
class Task:
    subject: Subject
    mutants: Sequence[Mutant]


def tasks(chosen: Sequence[tuple[Subject, Sequence[Mutant]]], jobs: int) -> list[Task]:
    """One for each rule; fewer rules than jobs are shared out."""
    parts = max(1, jobs // max(1, len(chosen)))
    return [
        Task(subject, found[part::parts])
        for subject, found in chosen
        for part in range(parts)
        if found[part::parts]
    ]


def run(todo: Sequence[Task], jobs: int) -> Iterator[Result | Broken]:
    """The results, as they come. Processes that are left are ended with the iterator."""
    for name in LIBRARIES:
        importlib.import_module(name)
    waiting = list(reversed(todo))
    running: dict[int, tuple[int, Task, bytearray]] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    task = waiting.pop()
                    pid, reading = _start(task)
                    running[reading] = (pid, task, bytearray())
                    selector.register(reading, selectors.EVENT_READ)
                for key, _ in selector.select():
                    reading = key.fd
                    pid, task, text = running[reading]
                    read = os.read(reading, 65536)
                    text += read
                    *lines, rest = bytes(text).split(b"\n")
                    text[:] = rest
                    yield from _results(task, lines)
                    if not read:
                        selector.unregister(reading)
                        os.close(reading)
                        del running[reading]
                        _, status = os.waitpid(pid, 0)
                        if status:
                            yield Broken(task.subject, f"its process ended with {status}")
        finally:
            _end([pid for pid, _, _ in running.values()])


def _start(task: Task) -> tuple[int, int]:
    """Fork the process of a rule; give its id and where to read its results."""
    from tests.mutants.session import serve

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()  # out of Ctrl-C's reach: it is told to end
            os.close(reading)
            codes = [task.subject.code, *(each.code for each in task.mutants)]
            serve(task.subject.proof, codes, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return pid, reading


def _results(task: Task, lines: Sequence[bytes]) -> Iterator[Result | Broken]:
    for said in map(json.loads, lines):
        if "broken" in said:
            yield Broken(task.subject, said["broken"])
        elif said["index"]:
            mutant = task.mutants[said["index"] - 1]
            yield Result(task.subject, mutant, not said["green"], said["test"], said["why"])


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        os.waitpid(pid, 0)
