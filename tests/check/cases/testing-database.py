import pytest
import pytest_asyncio
from pytest import fixture
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker


@pytest_asyncio.fixture
async def session(engine):
    async with async_session_maker() as session:
        yield session
        await session.rollback()  # finds


@pytest.fixture()
def db(engine):
    with Session(engine) as db:
        try:
            yield db
        finally:
            db.rollback()  # finds


@fixture(scope="function")
async def db_session():
    async with SessionLocal() as db:
        yield db
        await db.rollback()  # finds


@pytest_asyncio.fixture
async def joined(engine):
    async with engine.connect() as connection:
        transaction = await connection.begin()
        session = AsyncSession(bind=connection, expire_on_commit=False)  # finds
        yield session
        await session.close()
        await transaction.rollback()


@pytest.fixture
def joined_by_a_factory(engine):
    connection = engine.connect()
    transaction = connection.begin()
    yield sessionmaker(connection)()  # finds
    transaction.rollback()
    connection.close()


@pytest_asyncio.fixture
async def with_savepoints(engine):
    async with engine.connect() as connection:
        transaction = await connection.begin()
        yield async_sessionmaker(connection, join_transaction_mode="create_savepoint")
        await transaction.rollback()


@pytest_asyncio.fixture
async def with_savepoints_and_a_rollback(engine):
    async with engine.connect() as connection:
        await connection.begin()
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            yield session
            await session.rollback()


@pytest_asyncio.fixture
async def emptied(engine):
    async with AsyncSession(engine) as session:
        yield session
        await session.rollback()
        await session.execute(text("TRUNCATE orders"))
        await session.commit()


@pytest_asyncio.fixture
async def only_reads(engine):
    async with AsyncSession(engine) as session:
        yield session


async def no_fixture(engine):
    async with AsyncSession(engine) as session:
        yield session
        await session.rollback()
