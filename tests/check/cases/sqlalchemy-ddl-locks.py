import asyncio
import os

from alembic import op
from app.migrations import run_migrations
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config, create_async_engine


async def with_an_engine() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)  # finds
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)


async def run_async_migrations(config: Config) -> None:
    connectable = async_engine_from_config(  # finds
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    async with connectable.connect() as connection:
        await connection.run_sync(do_run_migrations)
    await connectable.dispose()


async def of_several_tenants(url: str, schemas: list[str]) -> None:
    engine = create_async_engine(url, connect_args={"ssl": True})  # finds
    for schema in schemas:
        async with engine.connect() as connection:
            await connection.run_sync(upgrade_schema, schema)


def upgrade() -> None:
    op.create_index("ix_orders_paid_at", "orders", ["paid_at"])  # finds
    op.alter_column("orders", "note", nullable=False)  # finds


def downgrade() -> None:
    op.drop_index("ix_orders_paid_at")
    op.create_index("ix_orders_note", "orders", ["note"])
    op.alter_column("orders", "note", nullable=False)


async def a_test_makes_its_tables(url: str) -> None:
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def the_engine_of_the_service(url: str) -> None:
    engine = create_async_engine(url, pool_size=5)
    async with engine.connect() as connection:
        await connection.execute(query)


class OfABatch:
    def upgrade(self) -> None:
        with op.get_context().autocommit_block():
            op.create_index("ix", "orders", ["paid_at"], postgresql_concurrently=True)
        op.alter_column("orders", "note", nullable=True)
        op.alter_column("orders", "sum", type_=BigInteger, nullable=False, existing_nullable=False)


asyncio.run(with_an_engine())


async def check_tables(database) -> None:
    await database.execute("ALTER TABLE documents ADD COLUMN hash TEXT NULL")  # finds
    widen = "ALTER TABLE documents ALTER COLUMN name TYPE TEXT"  # finds
    await database.execute(widen)


async def renames(database) -> None:
    await database.execute("ALTER TABLE documents RENAME TO files")


def says_so() -> None:
    logger.info("ALTER TABLE is done by Alembic")
    return "ALTER TABLE documents"
