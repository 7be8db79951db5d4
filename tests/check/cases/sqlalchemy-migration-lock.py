from alembic import command, context
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import create_async_engine


async def main() -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(7236001)"))  # finds
        await connection.run_sync(do_run_migrations)


async def tried_and_not_committed() -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        while not await connection.scalar(text("SELECT pg_try_advisory_lock(7236001)")):  # finds
            await asyncio.sleep(1)
        await connection.run_sync(run_migrations)


def with_a_function(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_lock(7236001)))  # finds
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


def waits_in_the_statement(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": KEY})  # finds
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": KEY})


async def committed_but_waits() -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(7236001)"))  # finds
        await connection.commit()
        await connection.run_sync(do_run_migrations)


def in_the_transaction(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(7236001)"))  # finds
        context.run_migrations()


async def polled_and_committed() -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        while not await connection.scalar(text("SELECT pg_try_advisory_lock(7236001)")):
            await connection.rollback()
            await asyncio.sleep(1)
        await connection.commit()
        await connection.run_sync(do_run_migrations)


async def a_job_of_which_one_runs(session: AsyncSession) -> None:
    if await session.scalar(text("SELECT pg_try_advisory_lock(1)")):
        await work(session)


async def a_transaction_of_a_user(session: AsyncSession, key: int) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(key)))
    await session.execute(statement)


def another_connection_migrates(config: Config) -> None:
    command.upgrade(config, "head")  # finds


def one_of_all_migrates(config: Config) -> None:
    with FileLock("migrations.lock"):
        command.upgrade(config, "head")


@app.command()
def by_hand(config: Config) -> None:
    command.upgrade(config, "head")
