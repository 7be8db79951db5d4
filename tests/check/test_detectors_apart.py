"""Detectors that speak of a whole file, so that no case can stand beside others."""

from __future__ import annotations

import pytest

from tests.check.detectors import findings

ENV = """
from alembic import context
from app.database import engine

def run_migrations_online() -> None:
    with engine.connect() as connection:
        {before}
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()

if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""
INDEX = """
from alembic import op

def upgrade() -> None:
    {first}
    op.execute("CREATE INDEX {how} orders_created ON orders (created)")
"""
LOCK = "connection.execute(text('SELECT pg_try_advisory_lock(1)')); connection.commit()"
BOUND = "connection.execute(text('SET lock_timeout = 500'))"


def rules(code: str, path: str = "app/env.py") -> set[str]:
    return {each.rule for each in findings(code, path)}


@pytest.mark.parametrize(
    ("before", "rule", "seen"),
    [
        ("pass", "sqlalchemy-ddl-locks", True),
        (BOUND, "sqlalchemy-ddl-locks", False),
        ("pass", "sqlalchemy-migration-lock", True),
        (LOCK, "sqlalchemy-migration-lock", False),
    ],
)
def test_an_env_whose_engine_comes_from_elsewhere(before: str, rule: str, seen: bool) -> None:
    assert (rule in rules(ENV.format(before=before))) is seen


@pytest.mark.parametrize(
    ("first", "how", "seen"),
    [
        ("op.drop_index('orders_created')", "", True),
        ("pass", "CONCURRENTLY", False),
        ("op.create_table('orders')", "", False),
    ],
)
def test_an_index_that_is_made_by_sql(first: str, how: str, seen: bool) -> None:
    found = rules(INDEX.format(first=first, how=how))
    assert ("sqlalchemy-ddl-locks" in found) is seen


@pytest.mark.parametrize(("limit", "seen"), [("", True), (", timeout=2", False)])
def test_a_query_of_a_health_check_in_a_module_of_its_own(limit: str, seen: bool) -> None:
    code = f"def check_db():\n    database.execute_sql('SELECT 1'{limit})\n"
    assert ("fastapi-health-checks" in rules(code, "app/health_utils.py")) is seen
    assert "fastapi-health-checks" not in rules(code, "app/service.py")
