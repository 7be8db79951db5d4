import asyncio

import pytest
import pytest_asyncio
from pytest import fixture
from sqlalchemy.ext.asyncio import create_async_engine


@pytest.fixture(scope="session")  # finds
def event_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest_asyncio.fixture(scope="session")  # finds
async def engine():
    engine = create_async_engine(URL)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture(autouse=True, scope='module')  # finds
async def tables(engine):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@fixture(scope="session")  # finds
async def in_auto_mode():
    yield 1


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def in_the_loop_of_the_session():
    yield 1


@pytest_asyncio.fixture
async def for_each_test(engine):
    yield 1


@pytest.fixture(scope="session")
def without_a_loop():
    return create_async_engine(URL)


@pytest.mark.asyncio
async def test_one(engine):
    async with engine.connect() as connection:
        await connection.execute(SELECT)


@pytest.mark.asyncio(loop_scope="session")
async def test_two(engine):
    async with engine.connect() as connection:
        await connection.execute(SELECT)


def event_loop():
    return asyncio.new_event_loop()
