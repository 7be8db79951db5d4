"""A suite whose tables come from the models is green where the revisions cannot be deployed."""

from __future__ import annotations

from pathlib import Path

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.migrations import CREATE_ORDERS, MODELS, python, tables, write_project
from tests.proofs.suites import Ran, given, run_suite
from tests.services import Database

STORE = """\
import asyncio, os
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from app.models import Order
async def store() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=NullPool)
    async with AsyncSession(engine) as session:
        session.add(Order())
        await session.commit()
"""
TEST = """\
import asyncio
from app.store import store
def test_an_order_is_stored() -> None:
    asyncio.run(store())
def test_another_is_stored() -> None:
    asyncio.run(store())
"""
ENGINE = """\
__import__("sqlalchemy.ext.asyncio").ext.asyncio.create_async_engine(\
__import__("os").environ["DATABASE_URL"], poolclass=__import__("sqlalchemy").NullPool)"""
CLASS = "class Order(Base):\n"
WITH_A_NOTE = MODELS.replace(
    CLASS, f"from sqlalchemy import Text\n{CLASS}    note = mapped_column(Text)\n"
)
NOT_COMPARED = MODELS.replace(
    CLASS,
    f"""\
from sqlalchemy import CheckConstraint
{CLASS}\
    __table_args__ = (CheckConstraint("id > 0", name="positive"),)
    amount = mapped_column(BigInteger, server_default="7")
""",
)
AUDITS = """\
from app.models import Base
from sqlalchemy import BigInteger
from sqlalchemy.orm import mapped_column
class Audit(Base):
    __tablename__ = "audits"
    id = mapped_column(BigInteger, primary_key=True)
"""
MAKO = """\
from alembic import op
import sqlalchemy as sa
revision, down_revision = ${repr(up_revision)}, ${repr(down_revision)}
def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
"""
# Several commands of Alembic in one process: its start takes longer than they do.
SHELL = """\
import asyncio, os, shlex
from pathlib import Path
from alembic.config import main
versions = Path("migrations/versions")
def alembic(line):
    try:
        main(shlex.split(line))
        print(f"> {line}: 0")
    except SystemExit as end:
        print(f"> {line}: {end.code}")
"""
TWO_HEADS = (
    CREATE_ORDERS,
    CREATE_ORDERS.replace('"0001", None', '"0002", "0001"').replace("orders", "payments"),
    CREATE_ORDERS.replace('"0001", None', '"0003", "0001"').replace("orders", "refunds"),
)
TABLES = """
class Payment(Base):
    __tablename__ = "payments"
    id = mapped_column(BigInteger, primary_key=True)
class Refund(Base):
    __tablename__ = "refunds"
    id = mapped_column(BigInteger, primary_key=True)
"""
STORED = dict.fromkeys(("test_an_order_is_stored", "test_another_is_stored"), "PASSED")
REFUSED = dict.fromkeys(STORED, "ERROR")


def _project(folder: Path, *revisions: str, models: str = MODELS) -> None:
    """A service with its revisions; each run of its env.py is a line of `runs`."""
    env = RuleFile.load("sqlalchemy-migrations").block(correct=True)
    write_project(folder, env, *revisions)
    path = folder / "migrations" / "env.py"
    path.write_text(f"open('runs', 'a').write('run\\n')\n{path.read_text()}")
    (folder / "migrations" / "script.py.mako").write_text(MAKO)
    (folder / "app" / "models.py").write_text(models)
    (folder / "app" / "store.py").write_text(STORE)


def _suite(folder: Path, block: Block, database: Database) -> Ran:
    files = {
        "conftest.py": given(block, **dict.fromkeys(block.given, ENGINE)),
        "test_store.py": TEST,
    }
    return run_suite(folder, files, env={"DATABASE_URL": database.url()})


async def _steps(folder: Path, database: Database, code: str) -> str:
    _, output = await python(folder, database.url(), "-c", SHELL + code)
    return output


def _ends(output: str) -> list[str]:
    """How the commands ended, and what they wrote."""
    return [line for line in output.splitlines() if line.startswith("> ")]


DEPLOY = """\
alembic("upgrade head")
alembic("upgrade heads")
alembic("revision -m next")
alembic("merge heads -m both")
alembic("upgrade head")
from app.store import store
asyncio.run(store())
"""


async def test_incorrect_is_green_and_neither_the_upgrade_nor_the_service_works(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    _project(tmp_path, *TWO_HEADS, models=WITH_A_NOTE + TABLES)
    assert _suite(tmp_path, incorrect, database).tests == STORED
    production = database.server.create_database()
    try:
        output = await _steps(tmp_path, production, DEPLOY)
    finally:
        production.drop()
    witness.saw(output)
    assert _ends(output) == [
        "> upgrade head: -1",
        "> upgrade heads: 0",
        "> revision -m next: -1",
        "> merge heads -m both: 0",
        "> upgrade head: 0",
    ]
    first, _, merged = output.partition("> upgrade head: -1")
    assert "Multiple head revisions are present" in first
    assert "Running upgrade" not in first
    assert "UndefinedColumnError" in merged
    witness.observed(
        incorrect="two heads: 2 tests passed, and alembic upgrade head applies nothing;"
        " a column without a revision: 2 tests passed, and the upgraded service fails"
    )


def _revision(name: str, after: object, statement: str) -> str:
    return (
        f"from alembic import op\nrevision, down_revision = {name!r}, {after!r}\n"
        f"def upgrade() -> None:\n    op.execute({statement!r})\n"
    )


async def test_correct_refuses_two_heads_and_a_column_without_a_revision(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    _project(tmp_path, *TWO_HEADS, models=WITH_A_NOTE + TABLES)
    versions = tmp_path / "migrations" / "versions"
    ran = _suite(tmp_path, correct, database)
    assert ran.tests == REFUSED
    assert "Multiple head revisions are present" in ran.output
    assert await tables(database) == []

    (versions / "0004.py").write_text(_revision("0004", ("0002", "0003"), "SELECT 1"))
    found = _suite(tmp_path, correct, database)
    assert found.tests == REFUSED
    assert "New upgrade operations detected: [('add_column', None, 'orders'" in found.output

    (versions / "0005.py").write_text(_revision("0005", "0004", "ALTER TABLE orders ADD note text"))
    # As `cd tests && pytest ..` would start it.
    (tmp_path / "tests").mkdir()
    (tmp_path / "runs").unlink()
    code, output = await python(
        tmp_path / "tests", database.url(), "-m", "pytest", "-p", "no:cacheprovider", ".."
    )
    assert (code, "2 passed" in output) == (0, True), output
    assert (tmp_path / "runs").read_text() == "run\n" * 2  # one upgrade, one check
    assert await tables(database) == ["alembic_version", "orders", "payments", "refunds"]
    witness.saw(ran.output, found.output)
    witness.observed(
        correct="two heads, and a column without a revision: 0 tests run; mended: 2 tests passed"
    )


AUTOGENERATE = """\
def autogenerate(number):
    alembic(f"revision --autogenerate --rev-id {number}")
    for file in versions.glob(f"{number}*"):
        print(">", file.read_text().partition("please adjust! ###")[2].split()[0])
        file.unlink()
alembic("upgrade head")
alembic("check")
autogenerate("0002")
(versions / "0002.py").write_text(Path("0002.txt").read_text())
alembic("check")
alembic("upgrade head")
autogenerate("0003")
env = Path("migrations/env.py")
env.write_text(Path("import_all.txt").read_text() + env.read_text())
alembic("check")
"""
IMPORT_ALL = """\
import importlib, pkgutil
import app
for module in pkgutil.walk_packages(app.__path__, "app."):
    importlib.import_module(module.name)
"""


async def test_env_py_knows_only_the_models_that_it_imports(
    database: Database, witness: Witness, tmp_path: Path
) -> None:
    _project(tmp_path, CREATE_ORDERS)
    (tmp_path / "app" / "audits.py").write_text(AUDITS)
    (tmp_path / "import_all.txt").write_text(IMPORT_ALL)
    create = "CREATE TABLE audits (id bigserial PRIMARY KEY)"
    (tmp_path / "0002.txt").write_text(_revision("0002", "0001", create))
    output = await _steps(tmp_path, database, AUTOGENERATE)
    assert _ends(output) == [
        "> upgrade head: 0",
        "> check: 0",
        "> revision --autogenerate --rev-id 0002: 0",
        "> pass",
        "> check: -1",
        "> upgrade head: 0",
        "> revision --autogenerate --rev-id 0003: 0",
        "> op.drop_table('audits')",
        "> check: 0",
    ], output
    assert "Target database is not up to date." in output
    witness.saw(output)


OTHER_BRANCH = """\
alembic("upgrade head")
(versions / "0002.py").unlink()
alembic("upgrade head")
alembic("stamp --purge head")
alembic("upgrade head")
"""


async def test_a_revision_of_another_branch_is_not_found_and_stamp_changes_no_table(
    database: Database, witness: Witness, tmp_path: Path
) -> None:
    _project(tmp_path, *TWO_HEADS[:2])
    output = await _steps(tmp_path, database, OTHER_BRANCH)
    assert _ends(output) == [
        "> upgrade head: 0",
        "> upgrade head: -1",
        "> stamp --purge head: 0",
        "> upgrade head: 0",
    ]
    assert "Can't locate revision identified by '0002'" in output
    assert await tables(database) == ["alembic_version", "orders", "payments"]
    witness.saw(output)


async def test_check_compares_neither_a_check_constraint_nor_a_server_default(
    database: Database, tmp_path: Path
) -> None:
    add = _revision("0002", "0001", "ALTER TABLE orders ADD amount bigint")
    _project(tmp_path, CREATE_ORDERS, add, models=NOT_COMPARED)
    output = await _steps(tmp_path, database, 'alembic("upgrade head")\nalembic("check")')
    assert _ends(output) == ["> upgrade head: 0", "> check: 0"], output
