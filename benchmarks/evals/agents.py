"""From a task to code: runs any agent that is a command, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOLUTION = "solution.py"
TASK = "{task}"
"""Where it stands in a command, the task is put; else the task comes on stdin."""
_FENCE = re.compile(r"(?ms)^(`{3,}|~{3,})[ \t]*(?:python|py)?[ \t]*\n(.*?)^\1[ \t]*$")


@dataclass(frozen=True, slots=True)
class Told:
    """How an agent's run ended. `tokens` is what the agent says that it used; `problem` says why
    there is no code, and is empty where there is."""

    seconds: float
    tokens: int | None = None
    problem: str = ""


def ask(command: str, task: str, folder: Path, limit: float) -> Told:
    """Run the command in `folder`, for `limit` seconds at most, and leave its code there as
    `solution.py`: what it wrote to that file, else the last fenced block of its answer."""
    words = shlex.split(command)
    on_stdin = not any(TASK in word for word in words)
    began = time.monotonic()
    with subprocess.Popen(
        [word.replace(TASK, task) for word in words],
        cwd=folder,
        stdin=subprocess.PIPE if on_stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as agent:
        try:
            out, err = agent.communicate(task if on_stdin else None, timeout=limit)
        except subprocess.TimeoutExpired:
            problem = f"took more than {limit:.0f} s"
            return Told(time.monotonic() - began, problem=problem)
        finally:
            with suppress(ProcessLookupError):  # also what it has left running
                os.killpg(agent.pid, signal.SIGKILL)
    seconds = time.monotonic() - began
    reply, tokens = _read(out)
    if agent.returncode:
        last = (err.strip() or out.strip() or "nothing said").splitlines()[-1][:200]
        return Told(seconds, tokens, f"ended with {agent.returncode}: {last}")
    path = folder / SOLUTION
    if not path.is_file():
        if not (code := fenced(reply)):
            return Told(seconds, tokens, "no code: neither solution.py nor a fenced block")
        path.write_text(code, "utf-8")
    return Told(seconds, tokens)


def fenced(reply: str) -> str:
    """The last fenced block of Python in an answer; empty where there is none."""
    found = _FENCE.findall(reply)
    return str(found[-1][1]) if found else ""


def _read(out: str) -> tuple[str, int | None]:
    """What an agent answers, and the tokens that it tells of: agents that print one JSON object
    name them `result` and `usage`."""
    said: Any = None
    with suppress(ValueError):
        said = json.loads(out)
    if not isinstance(said, dict) or not isinstance(said.get("result"), str):
        return out, None
    usage = said.get("usage")
    counts = [
        value
        for key, value in (usage.items() if isinstance(usage, dict) else ())
        if key.endswith("_tokens") and isinstance(value, int)
    ]
    return said["result"], sum(counts) if counts else None
