"""A change inside a JSONB document is saved where SQLAlchemy is told, and none is lost."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import ARRAY, Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.attributes import flag_modified

from tests.proofs.harness import Block, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

OLD = {"ui": {"theme": "light", "font": 12}, "beta": False}
NEW = {"ui": {"theme": "dark", "font": 12}, "beta": False}
VERSION = tuple(map(int, sqlalchemy.__version__.split(".")[:3]))

Sessions = async_sessionmaker[AsyncSession]


class Tables(DeclarativeBase):
    pass


class Plain(Tables):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[Any] = mapped_column(JSONB)


class Mutable(Tables):
    __tablename__ = "mutable"
    id: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSONB))


class Null(Tables):
    __tablename__ = "nulls"
    id: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)


def _block(block: Block) -> Any:
    base = type("Base", (DeclarativeBase,), {})
    module = block.run(Base=base)
    module.Account.base = base
    return module


@asynccontextmanager
async def _sessions(database: Database, model: Any, settings: Any = OLD) -> AsyncIterator[Sessions]:
    """A factory, over a database with one row of the model."""
    base = getattr(model, "base", Tables)
    async with engine_with(base, database.url()) as engine:
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with sessions.begin() as session:
            session.add(model(id=1, settings=copy.deepcopy(settings)))
        yield sessions


async def _stored(database: Database, model: Any) -> Any:
    return json.loads(await database.fetchval(f"SELECT settings FROM {model.__tablename__}"))


async def test_incorrect_saves_nothing(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    module = _block(incorrect)
    async with _sessions(database, module.Account) as sessions, sessions() as session:
        account: Any = await session.get(module.Account, 1)
        await module.set_theme(session, 1, "dark")
        await session.commit()
        assert account.settings == NEW  # what the object shows is not what is stored
    assert await _stored(database, module.Account) == OLD
    witness.observed(incorrect="after the commit the row has the old theme")


async def test_correct_saves_the_theme_and_leaves_the_rest(
    correct: Block, database: Database, witness: Witness
) -> None:
    module = _block(correct)
    async with _sessions(database, module.Account) as sessions:
        async with sessions.begin() as session:
            await module.set_theme(session, 1, "dark")
        assert await _stored(database, module.Account) == NEW
        async with sessions.begin() as session:
            with pytest.raises(LookupError):
                await module.set_theme(session, 2, "dark")
        await database.execute("UPDATE accounts SET settings = '{}'")
        async with sessions.begin() as session:
            await module.set_theme(session, 1, "dark")
        assert await _stored(database, module.Account) == {"ui": {"theme": "dark"}}
    witness.observed(correct="after the commit the row has the new theme, and other keys as before")


@pytest.mark.parametrize("held", [False, True])
async def test_correct_loses_no_change_of_another_transaction(
    correct: Block, database: Database, held: bool
) -> None:
    module = _block(correct)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with (
        _sessions(database, module.Account) as sessions,
        sessions() as other,
        sessions() as session,
        asyncio.timeout(20),
    ):
        if held:  # as by the dependency that authenticated the request
            await session.get(module.Account, 1)
        account: Any = await other.get(module.Account, 1)
        account.settings = {**OLD, "beta": True}
        await other.flush()
        setting = asyncio.create_task(module.set_theme(session, 1, "dark"))
        while not (setting.done() or await database.fetchval(waits)):
            await asyncio.sleep(0.01)
        await other.commit()
        await setting
        await session.commit()
    assert await _stored(database, module.Account) == {**NEW, "beta": True}


@pytest.mark.parametrize(("lock", "waits"), [(True, True), ({"key_share": True}, False)])
async def test_a_row_that_refers_to_the_document_holds_up_a_lock_without_key_share(
    database: Database, lock: Any, waits: bool
) -> None:
    async with (
        _sessions(database, Plain) as sessions,
        sessions() as other,
        sessions() as session,
        asyncio.timeout(20),
    ):
        await database.execute("CREATE TABLE refers (plain_id int REFERENCES plain)")
        await other.execute(text("INSERT INTO refers VALUES (1)"))
        await session.execute(text("SET lock_timeout = '200ms'"))
        reading = session.get(Plain, 1, with_for_update=lock)
        if waits:
            with pytest.raises(DBAPIError, match="lock timeout"):
                await reading
        else:
            assert await reading
        await other.rollback()
        await session.rollback()
        await database.execute("DROP TABLE refers")


async def test_without_a_lock_the_other_change_is_lost(database: Database) -> None:
    async with _sessions(database, Mutable) as sessions, sessions() as one, sessions() as two:
        first, second = await one.get(Mutable, 1), await two.get(Mutable, 1)
        assert first
        assert second
        first.settings["beta"] = True
        await one.commit()
        second.settings["ui"] = NEW["ui"]
        await two.commit()
    assert await _stored(database, Mutable) == NEW


def _key(row: Any) -> None:
    row.settings["beta"] = True


def _inner(row: Any) -> None:
    row.settings["ui"]["theme"] = "dark"


def _the_same(row: Any) -> None:
    row.settings["beta"] = True
    row.settings = row.settings


def _shallow(row: Any) -> None:
    changed = {**row.settings}
    changed["ui"]["theme"] = "dark"
    row.settings = changed


def _deep(row: Any) -> None:
    changed = copy.deepcopy(dict(row.settings))
    changed["ui"]["theme"] = "dark"
    row.settings = changed


def _flagged(row: Any) -> None:
    row.settings["ui"]["theme"] = "dark"
    flag_modified(row, "settings")


def _merged(row: Any) -> None:
    row.settings.update({"beta": True})


def _merged_in_place(row: Any) -> None:
    row.settings |= {"beta": True}


@pytest.mark.parametrize(
    ("change", "plain", "mutable"),
    [
        (_key, False, True),
        (_inner, False, False),
        (_the_same, False, True),
        (_shallow, False, False),
        (_deep, True, True),
        (_flagged, True, True),
        (_merged, False, True),
        (_merged_in_place, False, VERSION > (2, 0, 0)),
    ],
)
async def test_what_is_saved_by_which_change(
    database: Database, change: Callable[[Any], None], plain: bool, mutable: bool
) -> None:
    for model, saved in (Plain, plain), (Mutable, mutable):
        async with _sessions(database, model) as sessions, sessions() as session:
            row: Any = await session.get(model, 1)
            change(row)
            assert row.settings != OLD
            await session.commit()
        stored = await _stored(database, model)
        assert (stored != OLD) is saved
        if saved:
            assert stored == row.settings
        await database.execute("DELETE FROM plain; DELETE FROM mutable")


async def test_the_database_changes_a_key(database: Database) -> None:
    merged = Plain.settings.concat(cast({"beta": True}, JSONB))
    inner = func.jsonb_set(Plain.settings, cast(["ui", "theme"], ARRAY(Text)), cast("dark", JSONB))
    async with _sessions(database, Plain) as sessions:
        for values in merged, inner:
            async with sessions.begin() as session:
                await session.execute(update(Plain).where(Plain.id == 1).values(settings=values))
        assert await _stored(database, Plain) == {**NEW, "beta": True}
        await database.execute("UPDATE plain SET settings = '{}'")
        async with sessions.begin() as session:
            await session.execute(update(Plain).where(Plain.id == 1).values(settings=inner))
        assert await _stored(database, Plain) == {}


async def test_a_mutable_dict_refuses_a_list(database: Database, witness: Witness) -> None:
    async with _sessions(database, Mutable) as sessions, sessions() as session:
        row = await session.get(Mutable, 1)
        assert row
        with pytest.raises(ValueError, match="does not accept") as raised:
            row.settings = [1]
        witness.saw(raised.value)


async def test_none_is_stored_as_the_json_value_null(database: Database) -> None:
    models: list[tuple[Any, list[int]]] = [(Plain, []), (Null, [1])]
    for model, found in models:
        async with _sessions(database, model, settings={}) as sessions:
            async with sessions.begin() as session:
                row: Any = await session.get(model, 1)
                row.settings = None
            async with sessions() as session:
                nothing = select(model.id).where(model.settings.is_(None))
                assert (await session.scalars(nothing)).all() == found
