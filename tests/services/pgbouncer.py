"""A PgBouncer in front of a PostgreSQL, of the kind before 1.21 or of the kind since."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg

from tests.services.postgres import USER, Postgres
from tests.services.process import (
    GuardedFolder,
    Server,
    ServiceMissing,
    command,
    find_program,
    unpacked,
    unprivileged_user,
    version_of,
)

PoolMode = Literal["session", "transaction", "statement"]
# "current" can follow prepared statements from one server connection to the next, "old" can not.
Release = Literal["old", "current"]
NAME = "pgbouncer"
FOLLOWS = (1, 21)


def find_pgbouncer(release: Release) -> tuple[Path, str]:
    """Find where it lies, and its version; ServiceMissing otherwise."""
    installed = find_program(NAME, "/usr/sbin", "/usr/local/sbin")
    for place in (*unpacked(NAME), *([installed] if installed else [])):
        version = version_of(command(place, NAME))
        follows = tuple(map(int, version.split(".")[:2])) >= FOLLOWS
        if follows is (release == "current"):
            return place, version
    side = "1.21 or later" if release == "current" else "before 1.21"
    raise ServiceMissing(f"no pgbouncer {side}: `make servers` unpacks one where apt is")


class PgBouncer(Server):
    """A PgBouncer that lets everyone into every database of a PostgreSQL, as its superuser."""

    name = "PgBouncer"
    stop_signal = signal.SIGKILL  # from 1.23 on, TERM waits for every client to leave

    def __init__(
        self,
        postgres: Postgres,
        *,
        release: Release = "old",
        pool_mode: PoolMode = "transaction",
        pool_size: int = 5,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Take the pool's size for each database, and settings by their names in pgbouncer.ini."""
        self._place, self.version = find_pgbouncer(release)
        self._postgres = postgres
        self._settings: dict[str, str | int] = {
            "pool_mode": pool_mode,
            "default_pool_size": pool_size,
            "max_client_conn": 1000,
            **(settings or {}),
        }
        super().__init__(unprivileged_user())

    def _prepare(self, folder: GuardedFolder) -> None:
        # The server's user may not read the folder of the one who runs the tests.
        if self._place.is_dir():
            self._place = Path(shutil.copytree(self._place, folder.path / "copied"))

    def url(self, database: str, driver: str | None = "asyncpg") -> str:
        """Give a database's address through this pooler, as `Database.url` gives the direct one."""
        direct = self._postgres.url(database, driver)
        return direct.replace(f":{self._postgres.port}/", f":{self.port}/")

    def _argv(self) -> list[str | Path]:
        settings = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            **self._settings,
        }
        target = f"host={self._postgres.host} port={self._postgres.port} user={USER}"
        lines = ["[databases]", f"* = {target}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        path = self.folder / "pgbouncer.ini"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        path.chmod(0o644)  # whatever root's umask is
        return [*command(self._place, NAME), path]

    def _answers(self, pid: int) -> bool:
        # Its own console answers even while PostgreSQL is down.
        try:
            psycopg.connect(self.url("pgbouncer", None), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
