import csv
from collections.abc import Iterable
from csv import DictReader
from itertools import islice

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


async def from_mappings(session: AsyncSession, rows: Iterable[dict[str, object]]) -> None:
    session.add_all([Reading(**row) for row in rows])  # finds


async def from_models(session: AsyncSession, items: list[ReadingIn], sensor: int) -> None:
    readings = [Reading(**item.model_dump(), sensor_id=sensor) for item in items]
    session.add_all(readings)  # finds
    await session.commit()


def objects_that_are_saved(session: Session, rows: list[dict[str, object]]) -> None:
    session.bulk_save_objects([Reading(**row) for row in rows])  # finds


def objects_that_were_gathered(session: Session, lines: list[str]) -> None:
    found = []
    for line in lines:
        found.append(Reading(value=line))
    session.bulk_save_objects(found, return_defaults=True)  # finds


def from_a_file(session: Session, path: str) -> None:
    with open(path) as file:
        for row in csv.DictReader(file):
            session.add(Reading(value=row["value"]))  # finds
    session.commit()


def from_a_reader_with_a_name(session: Session, path: str) -> None:
    with open(path) as file:
        reader = DictReader(file, delimiter=";")
        for number, row in enumerate(reader):
            session.add(Line(number=number, text=row["text"]))  # finds
        for row in reader:
            session.add(Reading(value=row["value"]))  # finds


def from_a_frame(session: Session, frame: DataFrame) -> None:
    for _, row in frame.iterrows():
        session.add(Reading(value=row["value"]))  # finds


async def two_objects(session: AsyncSession, order: Order) -> None:
    session.add_all([order, Payment(order=order)])


async def a_few_relations(session: AsyncSession, key: int, tags: list[int]) -> None:
    session.add_all([DocumentTag(document_id=key, tag_id=tag) for tag in tags])


async def in_chunks(session: AsyncSession, rows: Iterable[dict[str, object]]) -> None:
    remaining = iter(rows)
    while chunk := list(islice(remaining, 1000)):
        await session.execute(insert(Reading), chunk)


def a_set(seen: set[str], path: str) -> None:
    with open(path) as file:
        names = [row[0] for row in csv.reader(file)]
    seen.add(names[0])


async def one_object(session: AsyncSession, given: ReadingIn) -> None:
    session.add(Reading(**given.model_dump()))


def add_documents(session, infos) -> None:
    for info in infos:  # finds
        document = Document(name=info["name"])
        session.add(document)


def add_chunks(db, chunks) -> None:
    made = []
    for chunk in chunks:  # finds
        made.append(Chunk(text=chunk))
    db.add_all(made)


def add_roles(session, user) -> None:
    for role in ("reader", "writer"):
        session.add(Role(user=user, name=role))


def add_documents_in_turn(session, infos) -> None:
    for info in infos:
        document = Document(name=info["name"])
        session.add(document)
        session.commit()
