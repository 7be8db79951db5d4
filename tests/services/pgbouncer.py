"""A PgBouncer in front of a PostgreSQL."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg

from tests.services.postgres import USER, Postgres
from tests.services.process import Server, ServiceMissing, find_program, unprivileged_user

PoolMode = Literal["session", "transaction", "statement"]


def find_pgbouncer() -> Path:
    """Find pgbouncer; ServiceMissing otherwise."""
    if found := find_program("pgbouncer", "/usr/sbin", "/usr/local/sbin"):
        return found
    raise ServiceMissing("no pgbouncer: apt-get install pgbouncer")


class PgBouncer(Server):
    """A PgBouncer that lets everyone into every database of a PostgreSQL, as its superuser."""

    name = "PgBouncer"
    stop_signal = signal.SIGKILL  # from 1.23 on, TERM waits for every client to leave

    def __init__(
        self,
        postgres: Postgres,
        *,
        pool_mode: PoolMode = "transaction",
        pool_size: int = 5,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Take the pool's size for each database, and settings by their names in pgbouncer.ini."""
        self._binary = find_pgbouncer()
        self._postgres = postgres
        self._settings: dict[str, str | int] = {
            "pool_mode": pool_mode,
            "default_pool_size": pool_size,
            "max_client_conn": 1000,
            **(settings or {}),
        }
        super().__init__(unprivileged_user())

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
        return [self._binary, path]

    def _answers(self, pid: int) -> bool:
        # Its own console answers even while PostgreSQL is down.
        try:
            psycopg.connect(self.url("pgbouncer", None), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
