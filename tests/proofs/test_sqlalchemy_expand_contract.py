"""A rename breaks the old code that still runs; a second column and a trigger serve both."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Text, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.migrations import alembic_in_process
from tests.services import Database


class OldBase(DeclarativeBase):
    pass


class Old(OldBase):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column("note", Text)


class NewBase(DeclarativeBase):
    pass


class New(NewBase):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[str | None] = mapped_column("comment", Text)


CREATE = """\
CREATE TABLE orders (id bigserial PRIMARY KEY, note text NOT NULL);
INSERT INTO orders (note) SELECT 'note ' || number FROM generate_series(1, 2500) AS number;
"""
FIRST = """\
revision, down_revision = "0001", None
def upgrade() -> None:
    pass
"""
CONTRACT = """\
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade() -> None:
    op.execute("DROP TRIGGER orders_note_comment ON orders")
    op.execute("DROP FUNCTION orders_note_comment")
    op.drop_column("orders", "note")
"""
DIFFERENT = "SELECT count(*) FROM orders WHERE note IS DISTINCT FROM comment"


@asynccontextmanager
async def _engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database.url(), pool_size=1, max_overflow=0)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _migrate(database: Database, folder: Path, *revisions: str) -> None:
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions.parent / "env.py").touch()
    for number, code in enumerate((FIRST, *revisions), 1):
        (versions / f"{number}.py").write_text(code)
    async with _engine(database) as engine, engine.connect() as connection:
        await connection.run_sync(alembic_in_process(folder))


async def _insert(session: AsyncSession, model: Any) -> None:
    order = model(value=f"of {model.__name__}")
    session.add(order)
    await session.flush()
    assert await session.scalar(select(model.value).where(model.id == order.id)) == order.value


async def _update(session: AsyncSession, model: Any) -> None:
    order = (await session.scalars(select(model).order_by(model.id).limit(1))).one()
    order.value = f"changed by {model.__name__}"


async def _read(session: AsyncSession, model: Any) -> None:
    values = (await session.scalars(select(model.value))).all()
    assert len(values) >= 2500
    assert None not in values


async def _works(engine: AsyncEngine, model: Any) -> tuple[int, list[DBAPIError]]:
    """How many of three calls work, and how the others fail."""
    failed = []
    for call in (_read, _insert, _update):
        try:
            async with AsyncSession(engine) as session, session.begin():
                await call(session, model)
        except DBAPIError as error:
            failed.append(error)
    return 3 - len(failed), failed


async def _both(engine: AsyncEngine) -> tuple[int, int]:
    """How many of three calls of the old code work, and of the new code.

    The engine keeps its connection, and with it the statements that were prepared before.
    """
    return (await _works(engine, Old))[0], (await _works(engine, New))[0]


async def test_incorrect_breaks_the_old_code(
    incorrect: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    await database.execute(CREATE)
    async with _engine(database) as engine:
        assert await _both(engine) == (3, 0)
        await _migrate(database, tmp_path, incorrect.code)
        count, failed = await _works(engine, Old)
        assert await _both(engine) == (0, 3)
    assert count == 0
    states = {getattr(error.orig, "sqlstate", None) for error in failed}
    assert states == {"42703"}, failed
    witness.saw(*failed)
    witness.observed(
        incorrect="after the rename: 0 of 3 calls of old code work, 3 of 3 of new code"
    )


async def test_correct_serves_old_and_new_code_until_the_contraction(
    correct: Block, database: Database, witness: Witness, tmp_path: Path
) -> None:
    await database.execute(CREATE)
    async with _engine(database) as engine:
        assert await _both(engine) == (3, 0)
        await database.execute("DELETE FROM orders WHERE note = 'of Old'")
        await _migrate(database, tmp_path, correct.code)
        for _ in range(2):
            for model in (Old, New):
                assert (await _works(engine, model))[0] == 3
                first = await database.fetchval("SELECT note FROM orders WHERE id = 1")
                assert first == f"changed by {model.__name__}"
                assert await database.fetchval(DIFFERENT) == 0
        for model in (Old, New):
            of = f"SELECT count(*) FROM orders WHERE comment = 'of {model.__name__}'"
            assert await database.fetchval(of) == 2
        await _migrate(database, tmp_path, correct.code, CONTRACT)
        assert await _both(engine) == (0, 3)
    witness.observed(
        correct="after the expansion: 3 of 3 calls of old code work, 3 of 3 of new code,"
        " and both columns are equal"
    )


async def test_correct_copies_in_batches_and_can_be_run_again(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    await database.execute(CREATE)
    # A row in the second batch is refused once.
    await database.execute("ALTER TABLE orders ADD CONSTRAINT once CHECK (id <> 1500) NOT VALID")
    with pytest.raises(IntegrityError):
        await _migrate(database, tmp_path, correct.code)
    copied = "SELECT count(comment) FROM orders"
    assert await database.fetchval(copied) == 1000
    await database.execute("ALTER TABLE orders DROP CONSTRAINT once")
    await _migrate(database, tmp_path, correct.code)
    assert await database.fetchval(copied) == 2500
    assert await database.fetchval("SELECT count(DISTINCT xmin::text) FROM orders") == 3
    assert await database.fetchval(DIFFERENT) == 0
    assert await database.fetchval("SELECT version_num FROM alembic_version") == "0002"


async def test_what_old_code_writes_while_the_rows_are_copied_is_in_both_columns(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    await database.execute(CREATE)
    async with _engine(database) as engine:
        migration = asyncio.create_task(_migrate(database, tmp_path, correct.code))
        written = 0
        while not migration.done() or written < 20:
            row = 1 + written * 997 % 2500
            async with AsyncSession(engine) as session, session.begin():
                change = update(Old).where(Old.id == row)
                await session.execute(change.values(value=f"written {written}"))
            written += 1
        await migration
    assert await database.fetchval(DIFFERENT) == 0
    assert await database.fetchval("SELECT count(*) FROM orders WHERE comment LIKE 'written%'") > 0


async def test_correct_locks_the_rows_in_the_order_of_their_keys(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    # Row 3 lies behind all others, so a scan of the table comes to row 5 before it.
    await database.execute(CREATE + "UPDATE orders SET note = 'moved' WHERE id = 3; ANALYZE orders")
    # Two halves of one upgrade: the first copies nothing, the second does nothing else.
    await _migrate(database, tmp_path, correct.code.replace("while last is not", "while last is"))
    await database.execute("UPDATE alembic_version SET version_num = '0001'")
    copying = re.sub(r"op\.execute\(\w+\)", "pass", correct.code)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with _engine(database) as engine, engine.connect() as paying:
        await paying.execute(update(Old).where(Old.id == 3).values(value="paid"))
        migration = asyncio.create_task(_migrate(database, tmp_path, copying))
        async with asyncio.timeout(20):
            while not await database.fetchval(waits):
                await asyncio.sleep(0.01)
        await paying.execute(update(Old).where(Old.id == 5).values(value="paid"))
        await paying.commit()
        await asyncio.wait_for(migration, 20)
    assert await database.fetchval(DIFFERENT) == 0


async def test_a_default_of_the_new_column_overwrites_what_old_code_inserts(
    database: Database, tmp_path: Path
) -> None:
    code = RuleFile.load("sqlalchemy-expand-contract").block(correct=True).code
    column = "ADD COLUMN IF NOT EXISTS comment text"
    assert column in code
    await database.execute(CREATE)
    await _migrate(database, tmp_path, code.replace(column, f"{column} DEFAULT 'none'"))
    async with _engine(database) as engine, AsyncSession(engine) as session, session.begin():
        with pytest.raises(AssertionError):
            await _insert(session, Old)


async def test_an_attribute_is_renamed_without_a_revision(database: Database) -> None:
    await database.execute(CREATE)
    # `Old` itself: its attribute is `value`, and its column is `note`.
    async with _engine(database) as engine:
        assert (await _works(engine, Old))[0] == 3


async def test_code_without_a_column_cannot_insert_where_it_is_not_null(
    database: Database, witness: Witness
) -> None:
    await database.execute(CREATE + "ALTER TABLE orders ADD comment text")
    async with _engine(database) as engine:
        async with AsyncSession(engine) as session:
            session.add(New(value="x"))
            with pytest.raises(IntegrityError, match="NotNullViolation") as raised:
                await session.flush()
        witness.saw(raised.value)
        for change in (
            "ALTER note SET DEFAULT ''",
            "ALTER note DROP DEFAULT, ALTER note DROP NOT NULL",
        ):
            await database.execute(f"ALTER TABLE orders {change}")
            async with AsyncSession(engine) as session:
                session.add(New(value="x"))
                await session.flush()


def _but_the_old_column(name: str | None, type_: str, parents: Any) -> bool:
    return (type_, parents.get("table_name"), name) != ("column", "orders", "note")


async def test_alembic_check_names_the_old_column_unless_it_is_left_out(
    correct: Block, database: Database, tmp_path: Path
) -> None:
    await database.execute(CREATE)

    def compare(connection: Connection, /, **options: Any) -> list[Any]:
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, NewBase.metadata)
        return [each[0] for each in found if isinstance(each, tuple)]

    async def compared(**options: Any) -> list[Any]:
        async with _engine(database) as engine, engine.connect() as connection:
            return await connection.run_sync(compare, **options)

    assert await compared() == ["add_column", "remove_column"]
    await _migrate(database, tmp_path, correct.code)
    assert await compared() == ["remove_column"]
    assert await compared(include_name=_but_the_old_column) == []
