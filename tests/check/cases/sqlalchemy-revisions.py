import subprocess
import sys

import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from pytest import fixture
from sqlmodel import SQLModel


@pytest_asyncio.fixture(scope="session", autouse=True)
async def tables():
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.drop_all)
        await conn.run_sync(Base.metadata.create_all)  # finds
    yield
    await engine.dispose()


@fixture
def db():
    Base.metadata.create_all(bind=engine)  # finds
    with SessionLocal() as session:
        yield session


@pytest.fixture(scope="session")
def sqlmodel_engine():
    SQLModel.metadata.create_all(engine)  # finds
    return engine


@pytest.fixture(scope="session")
def sync_in_async():
    async def build():
        async with engine.begin() as conn:
            await conn.run_sync(models.Base.metadata.create_all)  # finds

    asyncio.run(build())


# Right: the revisions build the tables.
@pytest.fixture(scope="session", autouse=True)
def migrated():
    command.upgrade(Config("alembic.ini"), "head")
    command.check(Config("alembic.ini"))


@pytest.fixture(scope="session")
def in_a_process():
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], check=True)


# Right: the proof that both ways agree.
@pytest.fixture
def both(config, first, second):
    command.upgrade(config, "head")
    Base.metadata.create_all(second)


# No fixture of a test.
async def create_tables():
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
