from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

import fastapi
import sqlmodel
from fastapi import Depends
from fastapi import Depends as Needs
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

engine = create_engine(url)
Local = sessionmaker(engine)
SessionLocal = sessionmaker(bind=engine)
AsyncFactory = async_sessionmaker(async_engine)


def get_db():  # finds
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


def in_a_with() -> Iterator[Session]:  # finds
    with Session(engine) as session:
        yield session


def of_sqlmodel():  # finds
    with sqlmodel.Session(engine) as session:
        yield session


def committed() -> Iterator[Session]:  # finds
    with Local() as db, db.begin():
        yield db


DbSession = Annotated[Session, Depends(get_db)]
Other = Annotated[Session, Needs(in_a_with)]


def route(one=fastapi.Depends(of_sqlmodel), other=Depends(committed, scope="function")):
    return one


def limited() -> Iterator[Session]:
    with Local() as session:
        yield session


Limited = Annotated[Session, Depends(limited, max_concurrency=10)]


async def place() -> AsyncIterator[None]:
    async with places:
        yield


def admitted(_: Annotated[None, Depends(place)]) -> Iterator[Session]:
    with Local() as session:
        yield session


def admitted_before(_: None = Depends(place)) -> Iterator[Session]:
    with Local() as session:
        yield session


Admitted = Annotated[Session, Depends(admitted)]
AdmittedBefore = Annotated[Session, Depends(admitted_before)]


async def get_async() -> AsyncIterator[AsyncSession]:
    async with AsyncFactory() as session:
        yield session


Async = Annotated[AsyncSession, Depends(get_async)]


@contextmanager
def for_a_script() -> Iterator[Session]:
    with Local() as session:
        yield session


def rows() -> Iterator[int]:
    with Local() as session:
        yield from session.scalars(query)


def get_settings():
    yield Settings()


Settled = Annotated[Settings, Depends(get_settings)]
