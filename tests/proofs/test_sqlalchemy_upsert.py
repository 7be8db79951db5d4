"""Three transactions that want one row: which of them fail, and what else they lose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError, MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.proofs.harness import Block, RuleFile, Witness
from tests.proofs.tables import engine_with
from tests.services import Database

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"

Factory = Any


class Base(DeclarativeBase):
    pass


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    uses: Mapped[int] = mapped_column(default=0, onupdate=77)


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag_id: Mapped[int | None]


@asynccontextmanager
async def _sessions(database: Database, **options: Any) -> AsyncIterator[Factory]:
    async with engine_with(Base, database.url(), **options) as engine:
        yield async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


def _get_or_create(block: Block | None = None) -> Any:
    block = block or RuleFile.load("sqlalchemy-upsert").block(correct=True)
    return block.run(Tag=Tag).get_or_create


async def _three_posts(
    database: Database, factory: Factory, get_or_create: Any
) -> list[BaseException]:
    """Three transactions that write a post and its tag; all select before one inserts the tag."""

    async def write(number: int) -> None:
        async with factory.begin() as session:
            post = Post(id=number)
            session.add(post)
            await session.flush()
            tag = await get_or_create(session, "new")
            assert (tag.name, tag.uses) == ("new", 0)
            post.tag_id = tag.id

    async with asyncio.timeout(60):
        async with factory.begin() as gate:
            await gate.execute(text("LOCK TABLE tags IN SHARE MODE"))
            works = [asyncio.create_task(write(number)) for number in range(3)]
            while await database.fetchval(WAITING, database.name) < len(works):
                await asyncio.sleep(0.01)
        ended = await asyncio.gather(*works, return_exceptions=True)
    return [each for each in ended if isinstance(each, BaseException)]


JOINED = "SELECT count(*) FROM posts JOIN tags ON tags.id = posts.tag_id"


async def test_incorrect_fails_two_of_three_transactions(
    incorrect: Block, database: Database, witness: Witness
) -> None:
    async with _sessions(database) as factory:
        failed = await _three_posts(database, factory, _get_or_create(incorrect))
    assert [type(each) for each in failed] == [IntegrityError] * 2
    assert await database.fetchval("SELECT count(*) FROM posts") == 1
    witness.saw(*failed)
    witness.observed(incorrect="3 posts at once with one new tag: 2 IntegrityError, 1 post")


LAST_ID = "SELECT last_value FROM tags_id_seq"


async def test_correct_stores_all_three(
    correct: Block, database: Database, witness: Witness
) -> None:
    """And writes nothing where the tag is there, and hides no other constraint."""
    get_or_create = _get_or_create(correct)
    async with _sessions(database) as factory:
        await database.execute("INSERT INTO tags (name, uses) VALUES ('old', 7)")
        assert await _three_posts(database, factory, get_or_create) == []
        assert await database.fetchval(JOINED) == 3
        assert await database.fetchval("SELECT count(*) FROM tags WHERE name = 'new'") == 1
        last = await database.fetchval(LAST_ID)
        for _ in range(10):
            async with factory.begin() as session:
                assert (await get_or_create(session, "new")).name == "new"
        assert await database.fetchval(LAST_ID) == last
        await database.execute("ALTER TABLE tags ADD CONSTRAINT one UNIQUE (uses)")
        async with factory() as session:
            with pytest.raises(IntegrityError, match='"one"'):
                await get_or_create(session, "other")
    witness.observed(correct="3 posts at once with one new tag: 3 posts, 1 tag")


async def test_correct_takes_over_where_the_first_transaction_rolls_back(
    correct: Block, database: Database
) -> None:
    get_or_create = _get_or_create(correct)
    async with _sessions(database) as factory, factory() as first, asyncio.timeout(60):
        await get_or_create(first, "new")

        async def another() -> int:
            async with factory.begin() as session:
                return int((await get_or_create(session, "new")).id)

        tasks = [asyncio.create_task(another()) for _ in range(2)]
        while await database.fetchval(WAITING, database.name) < len(tasks):
            await asyncio.sleep(0.01)
        await first.rollback()
        stored = await asyncio.gather(*tasks)
        assert stored == [await database.fetchval("SELECT id FROM tags")] * 2


@pytest.mark.parametrize(("savepoint", "posts"), [(True, 3), (False, 1)])
async def test_a_savepoint_keeps_what_a_rollback_loses(
    database: Database, savepoint: bool, posts: int
) -> None:
    async def get_or_create(session: AsyncSession, name: str) -> Tag:
        query = select(Tag).where(Tag.name == name)
        tag = await session.scalar(query)
        if tag is not None:
            return tag
        try:
            if savepoint:
                async with session.begin_nested():
                    session.add(Tag(name=name))
            else:
                session.add(Tag(name=name))
                await session.flush()
        except IntegrityError:
            if not savepoint:
                await session.rollback()
        return (await session.scalars(query)).one()

    async with _sessions(database) as factory:

        class Begun:
            """Sessions that go on after a rollback."""

            @staticmethod
            @asynccontextmanager
            async def begin() -> AsyncIterator[AsyncSession]:
                async with factory() as session:
                    yield session
                    await session.commit()

        assert await _three_posts(database, Begun, get_or_create) == []
    assert await database.fetchval("SELECT count(*) FROM posts") == posts


async def test_without_a_constraint_there_are_duplicates(
    database: Database, witness: Witness
) -> None:
    select_first = RuleFile.load("sqlalchemy-upsert").block(correct=False)
    async with _sessions(database) as factory:
        await database.execute("ALTER TABLE tags DROP CONSTRAINT tags_name_key")
        assert await _three_posts(database, factory, _get_or_create(select_first)) == []
        assert await database.fetchval("SELECT count(*) FROM tags") == 3
        async with factory() as session:
            result = await session.execute(select(Tag))
            with pytest.raises(MultipleResultsFound) as many:
                result.scalar_one_or_none()
            with pytest.raises(DBAPIError) as caught:
                await _get_or_create()(session, "other")
    witness.saw(many.value, caught.value)


async def test_nulls_do_not_conflict_unless_the_constraint_says_so(database: Database) -> None:
    query = text("INSERT INTO marks VALUES (NULL, 'a') ON CONFLICT DO NOTHING")
    async with _sessions(database) as factory:
        for clause, rows in (("", 2), ("NULLS NOT DISTINCT", 1)):
            await database.execute(
                f"CREATE TABLE marks (owner int, name text, UNIQUE {clause} (owner, name))"
            )
            async with factory.begin() as session:
                await session.execute(query)
                await session.execute(query)
            assert await database.fetchval("SELECT count(*) FROM marks") == rows
            await database.execute("DROP TABLE marks")


async def test_a_partial_index_needs_its_condition(database: Database) -> None:
    async with _sessions(database) as factory:
        await database.execute(
            "ALTER TABLE tags DROP CONSTRAINT tags_name_key;"
            "CREATE UNIQUE INDEX ON tags (name) WHERE uses = 0"
        )
        async with factory() as session:
            with pytest.raises(DBAPIError, match="no unique or exclusion constraint matching"):
                await _get_or_create()(session, "a")
        query = insert(Tag).values(name="a")
        query = query.on_conflict_do_nothing(index_elements=[Tag.name], index_where=Tag.uses == 0)
        async with factory.begin() as session:
            for _ in range(2):
                await session.execute(query)
    assert await database.fetchval("SELECT count(*) FROM tags") == 1


async def test_do_nothing_returns_no_row_for_one_that_was_there(
    database: Database, witness: Witness
) -> None:
    query = insert(Tag).values(name="a").on_conflict_do_nothing(index_elements=[Tag.name])
    async with _sessions(database) as factory, factory.begin() as session:
        assert (await session.scalars(query.returning(Tag.id))).all() == [1]
        again = await session.execute(query.returning(Tag.id))
        with pytest.raises(NoResultFound) as caught:
            again.scalar_one()
    witness.saw(caught.value)


def _upsert(rows: list[dict[str, Any]]) -> Any:
    query = insert(Tag).values(rows)
    return query.on_conflict_do_update(
        index_elements=[Tag.name], set_={"uses": Tag.uses + query.excluded.uses}
    )


async def test_do_update_returns_each_row_and_adds_to_what_is_there(database: Database) -> None:
    async with _sessions(database) as factory, factory.begin() as session:
        await session.execute(_upsert([{"name": "a", "uses": 1}]))
        query = _upsert([{"name": "b", "uses": 2}, {"name": "a", "uses": 3}])
        rows = await session.execute(query.returning(Tag.name, Tag.uses))
        assert {tuple(row) for row in rows} == {("a", 4), ("b", 2)}


async def test_an_object_that_the_session_holds_keeps_its_values(database: Database) -> None:
    async with _sessions(database) as factory, factory.begin() as session:
        tag = await _get_or_create()(session, "a")
        query = _upsert([{"name": "a", "uses": 3}])
        returned = (await session.scalars(query.returning(Tag))).one()
        assert returned is tag
        assert tag.uses == 0
        await session.refresh(tag)
        assert tag.uses == 3


async def test_do_update_heeds_no_onupdate(database: Database) -> None:
    query = (
        insert(Tag)
        .values(name="a")
        .on_conflict_do_update(index_elements=[Tag.name], set_={"name": "a"})
    )
    async with _sessions(database) as factory, factory.begin() as session:
        for _ in range(2):
            await session.execute(query)
        assert await session.scalar(select(Tag.uses)) == 0


async def test_a_row_that_stands_twice_in_one_statement(
    database: Database, witness: Witness
) -> None:
    rows = [{"name": "a", "uses": 1}, {"name": "a", "uses": 2}]
    async with _sessions(database) as factory:
        async with factory() as session:
            with pytest.raises(DBAPIError) as caught:
                await session.execute(_upsert(rows))
        witness.saw(caught.value)
        async with factory.begin() as session:
            query = insert(Tag).values(rows).on_conflict_do_nothing(index_elements=[Tag.name])
            await session.execute(query)
            assert (await session.scalars(select(Tag.uses))).all() == [1]
            last = {row["name"]: row for row in rows}
            await session.execute(_upsert(list(last.values())))
            assert await session.scalar(select(func.sum(Tag.uses))) == 3


async def test_at_repeatable_read_the_second_transaction_fails(
    database: Database,
) -> None:
    options = {"isolation_level": "REPEATABLE READ"}
    async with _sessions(database, **options) as factory:
        failed = await _three_posts(database, factory, _get_or_create())
    assert [getattr(getattr(each, "orig", None), "sqlstate", None) for each in failed] == [
        "40001"
    ] * 2
