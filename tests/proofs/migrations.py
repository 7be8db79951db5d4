"""Alembic projects of proofs: written, migrated in a process of their own or in this one, timed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tests.proofs.harness import Block
from tests.services import Database

# As `alembic init` writes it: the root logger at WARNING, Alembic's at INFO.
TEMPLATE = Path(alembic.__file__).parent / "templates" / "async" / "alembic.ini.mako"
INI = """\
[alembic]
script_location = migrations
prepend_sys_path = .
path_separator = os
[loggers]
""" + TEMPLATE.read_text().partition("[loggers]\n")[2]
MODELS = """\
from sqlalchemy import BigInteger
from sqlalchemy.orm import DeclarativeBase, mapped_column
class Base(DeclarativeBase):
    pass
class Order(Base):
    __tablename__ = "orders"
    id = mapped_column(BigInteger, primary_key=True)
"""
CREATE_ORDERS = """\
from alembic import op
revision, down_revision = "0001", None
def upgrade() -> None:
    op.execute("CREATE TABLE orders (id bigserial PRIMARY KEY)")
"""
FAIL = """\
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade() -> None:
    op.execute("SELECT 1 / 0")
"""


def write_project(folder: Path, env: Block, *migrations: str) -> None:
    """Make a folder that `alembic` runs in: the block is its env.py, with its Markdown's lines."""
    (folder / "app").mkdir(parents=True)
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text(INI)
    (folder / "app" / "models.py").write_text(MODELS)
    (folder / "migrations" / "env.py").write_text("\n" * (env.line - 1) + env.code)
    for number, migration in enumerate(migrations, 1):
        (folder / "migrations" / "versions" / f"{number:04}.py").write_text(migration)


async def python(folder: Path, url: str, *arguments: str) -> tuple[int, str]:
    """Run Python in that folder, with the service's address; give its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(180):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def upgrade(folder: Path, url: str) -> tuple[int, str]:
    """Run `alembic upgrade head`; give its exit code and what it printed."""
    return await python(folder, url, "-m", "alembic", "upgrade", "head")


async def tables(database: Database) -> list[str]:
    """The names of the tables in a database."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    return [row[0] for row in await database.fetch(query)]


def alembic_in_process(
    folder: Path, *, each: bool = True, **attributes: Any
) -> Callable[[Connection], None]:
    """What `migrate` of env.py does, without a process and its globals."""
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(folder / "migrations"))
    script = ScriptDirectory.from_config(config)

    def to_head(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    def migrate(connection: Connection) -> None:
        environment = EnvironmentContext(config, script, fn=to_head)
        environment.configure(connection=connection, transaction_per_migration=each)
        with environment.begin_transaction():
            environment.run_migrations()

    return migrate


sleep, timeout = asyncio.sleep, asyncio.timeout


@dataclass
class Times:
    """What a block waits for. Its pauses take a thousandth of their length.

    Each of its limits ends after `at_most` seconds; `while_asleep` is called in each pause.
    """

    pauses: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    at_most: float = 30
    while_asleep: Callable[[], Awaitable[object]] | None = None

    async def sleep(self, seconds: float) -> None:
        if self.while_asleep:
            await self.while_asleep()
        self.pauses.append(seconds)
        assert len(self.pauses) < 2000, "it waits without end"
        await sleep(seconds / 1000)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.limits.append(seconds)
        return timeout(self.at_most)
