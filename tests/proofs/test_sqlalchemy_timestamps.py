"""An aware time survives a round trip only in a column with a time zone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import DateTime, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
BERLIN = {"psycopg": {"options": "-c timezone=Europe/Berlin"}, "asyncpg": {}}


@pytest.fixture
def process_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process live in Europe/Berlin."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


async def _stored(block: Block, database: Database, driver: str, when: datetime | None) -> Any:
    """Insert an order paid at `when`, with psycopg in a session in Berlin; give what is read."""
    module = block.run()
    async with engine_with(
        module.Base, database.url(driver), connect_args=BERLIN[driver]
    ) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add(module.Order(paid_at=when))
        async with AsyncSession(engine) as session:
            order: Any = (await session.scalars(select(module.Order))).one()
            return order.paid_at


async def test_incorrect_is_refused_by_asyncpg(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    with pytest.raises(DBAPIError, match="offset-naive and offset-aware") as refused:
        await _stored(incorrect, database, "asyncpg", NOON)
    witness.saw(refused.value)
    assert await database.fetchval("SELECT count(*) FROM orders") == 0
    witness.observed(incorrect="asyncpg: DataError, 0 rows of 1; psycopg: 12:00 UTC became 14:00")


async def test_incorrect_is_stored_two_hours_off_by_psycopg(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    read = await _stored(incorrect, database, "psycopg", NOON)
    assert read == datetime(2026, 7, 1, 14)  # noqa: DTZ001
    with pytest.raises(TypeError, match="can't compare offset-naive") as refused:
        assert read < NOON
    witness.saw(refused.value)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_correct_reads_the_same_instant_back(
    correct: Block, database: Database, driver: str, witness: Witness
) -> None:
    read = await _stored(correct, database, driver, NOON)
    assert read == NOON
    assert read.tzinfo is not None
    assert await database.fetchval("SELECT created_at > now() - interval '1 h' FROM orders")
    witness.observed(correct="asyncpg and psycopg: 12:00 UTC read back as 12:00 UTC")


def test_correct_compiles_every_datetime_to_timestamptz(correct: Block) -> None:
    ddl = str(CreateTable(correct.run().Order.__table__).compile(dialect=_POSTGRESQL))
    assert ddl.count("TIMESTAMP WITH TIME ZONE") == 2
    assert "WITHOUT" not in ddl


def test_a_column_that_names_its_type_overrules_the_map(correct: Block) -> None:
    module = correct.run()

    class Visit(module.Base):  # type: ignore[misc, name-defined]
        __tablename__ = "visits"
        id: Mapped[int] = mapped_column(primary_key=True)
        left: Mapped[datetime] = mapped_column(DateTime)

    assert module.Order.__table__.c.paid_at.type.timezone
    assert not Visit.__table__.c.left.type.timezone


@pytest.mark.usefixtures("process_in_berlin")
async def test_asyncpg_takes_a_naive_time_as_local(correct: Block, database: Database) -> None:
    read = await _stored(correct, database, "asyncpg", NOON.replace(tzinfo=None))
    assert read == NOON.replace(hour=10)


@pytest.mark.usefixtures("process_in_berlin")
async def test_correct_sets_the_time_of_creation_in_any_zone(
    correct: Block, database: Database
) -> None:
    assert await _stored(correct, database, "asyncpg", None) is None
    age = await database.fetchval("SELECT now() - created_at FROM orders")
    assert timedelta(minutes=-1) < age < timedelta(minutes=1)


async def test_the_zone_of_a_value_is_not_kept(correct: Block, database: Database) -> None:
    in_berlin = NOON.astimezone(timezone(timedelta(hours=2)))
    read = await _stored(correct, database, "asyncpg", in_berlin)
    assert (read, read.utcoffset()) == (in_berlin, timedelta(0))


FILES = "SELECT pg_relation_filenode('orders'), pg_relation_filenode('orders_paid_at')"


@pytest.mark.parametrize(
    ("alter", "hour", "rewrites"),
    [
        ("", 10, True),
        ("USING paid_at AT TIME ZONE 'UTC'", 12, True),
        ("SET LOCAL timezone = 'UTC'", 12, False),
    ],
)
async def test_only_a_session_in_utc_changes_the_type_without_a_rewrite(
    incorrect: Block, database: Database, alter: str, hour: int, rewrites: bool
) -> None:
    module = incorrect.run()
    async with engine_with(module.Base, database.url()) as engine, engine.begin() as connection:
        naive = NOON.replace(tzinfo=None)
        await connection.execute(insert(module.Order).values(created_at=naive, paid_at=naive))
    await database.execute("CREATE INDEX orders_paid_at ON orders (paid_at)")
    (table, index), *_ = await database.fetch(FILES)
    using = alter if alter.startswith("USING") else ""
    await database.execute(
        "SET timezone = 'Europe/Berlin'; BEGIN;"
        f"{'' if using else alter};"
        f"ALTER TABLE orders ALTER COLUMN paid_at TYPE timestamptz {using}; COMMIT"
    )
    assert await database.fetchval("SELECT paid_at FROM orders") == NOON.replace(hour=hour)
    (table_now, index_now), *_ = await database.fetch(FILES)
    assert (table_now != table, index_now != index) == (rewrites, True)
