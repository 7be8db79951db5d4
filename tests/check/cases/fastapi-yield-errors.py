from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

app = FastAPI()


async def get_db() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as db:
        try:
            yield db
        except Exception:  # finds
            await db.rollback()
        finally:
            await db.close()


def get_sync_session() -> Iterator[Session]:
    session = LocalSession()
    try:
        yield session
        session.commit()
    except SQLAlchemyError as error:  # finds
        logger.error("rolled back: %s", error)
        session.rollback()
    finally:
        session.close()


async def locked(name: str):
    await lock(name)
    try:
        yield name
    except:  # finds
        logger.warning("failed")
    finally:
        await unlock(name)


async def audited() -> AsyncIterator[None]:
    try:
        async with entry():
            yield
    except (HTTPException, ValueError) as error:  # finds
        await audit(error.args)


@app.get("/")
async def read(a: str = Depends(locked), b: None = Depends(audited)) -> None: ...


@app.get("/right")
async def right(
    a: int = Depends(raises_again),
    b: int = Depends(turns_into_another),
    c: int = Depends(only_cleans),
    d: int = Depends(handed_on),
    e: int = Depends(before_the_yield),
    f: int = Depends(after_the_yield),
    g: int = Depends(one_that_it_expects),
) -> None: ...


async def raises_again() -> AsyncIterator[int]:
    try:
        yield 1
    except Exception:
        await roll_back()
        raise


async def turns_into_another() -> AsyncIterator[int]:
    try:
        yield 1
    except SQLAlchemyError as error:
        if duplicate(error):
            raise HTTPException(409) from error
        raise


async def only_cleans() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await close()


async def handed_on() -> AsyncIterator[int]:
    try:
        yield 1
    except Exception as error:
        translate(error)


async def before_the_yield() -> AsyncIterator[int]:
    try:
        value = await cached()
    except Exception:
        value = 0
    yield value


async def after_the_yield() -> AsyncIterator[int]:
    yield 1
    try:
        await close()
    except Exception:
        logger.exception("not closed")


async def one_that_it_expects() -> AsyncIterator[int]:
    try:
        yield 1
    except ConnectionResetError:
        logger.info("the client left")


@asynccontextmanager
async def get_session() -> AsyncIterator[AsyncSession]:
    async with SessionFactory() as session:
        try:
            yield session
        except Exception:
            await session.rollback()


@pytest.fixture
def get_test_db() -> Iterator[Session]:
    try:
        yield LocalSession()
    except Exception:
        logger.exception("test failed")


async def lines() -> AsyncIterator[str]:
    try:
        async for line in source():
            yield line
    except Exception:
        yield "event: error\n\n"


@app.get("/lines")
async def stream() -> StreamingResponse:
    return StreamingResponse(lines())
