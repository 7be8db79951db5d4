"""A web server program as a process of its own."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services.process import HOST, GuardedFolder, ServiceFailed, free_port, spawn


@dataclass(frozen=True)
class Program:
    """A running program that answers HTTP."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    def output(self) -> str:
        """What it has written to stdout and stderr."""
        return self.log.read_text("utf-8", "replace")

    def terminate(self, timeout: float = 10.0) -> int:
        """Send SIGTERM and give the exit code; TimeoutExpired where it takes over `timeout` s."""
        self.process.terminate()
        return self.process.wait(timeout)

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True


@contextmanager
def serving_process(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    path: str = "/",
    timeout: float = 90.0,
) -> Iterator[Program]:
    """Run a program while the body runs, once a GET on `path` answers with whatever status.

    A free port takes the place of "{port}" in `argv`; `env` adds to this process's environment.
    ServiceFailed where the program ends, or does not answer in `timeout` seconds. In the end the
    program and its children are killed.
    """
    port = free_port()
    folder = GuardedFolder()
    command = [str(argument).replace("{port}", str(port)) for argument in argv]
    # Unbuffered, so that a killed program's output is whole.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
    try:
        process = spawn(command, folder, env=environment, cwd=cwd)
        program = Program(port, process, folder.path / "log")
        try:
            deadline = time.monotonic() + timeout
            while not program._answers(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ServiceFailed(f"{command[0]} did not answer:\n{program.output()[-2000:]}")
                time.sleep(0.01)
            yield program
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            folder.watch(None)
    finally:
        folder.close()
