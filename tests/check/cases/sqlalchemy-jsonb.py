import copy
from typing import Any

from sqlalchemy import JSON, Column, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import flag_modified


class User(Base):
    __tablename__ = "users"
    profile: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    extra = Column("extra_data", JSON, nullable=True)
    labels: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSONB))


async def two_levels(session: AsyncSession, key: int) -> None:
    account = await session.get(Account, key)
    account.settings["ui"]["theme"] = "dark"  # finds
    await session.commit()


async def a_list_inside(session: AsyncSession, key: int) -> None:
    project = (await session.execute(select(Project))).scalar_one_or_none()
    project.data["tags"].append("new")  # finds


def with_setdefault(session: Session, key: int) -> None:
    job = session.query(Job).filter(Job.id == key).first()
    job.meta.setdefault("steps", {})["last"] = key  # finds
    session.commit()


async def plain_column(session: AsyncSession, user: User) -> None:
    user.profile["name"] = "x"  # finds
    await session.commit()


async def plain_column_of_old(session: AsyncSession, user: User) -> None:
    user.extra.update(seen=True)  # finds
    await session.commit()


async def flagged(session: AsyncSession, key: int) -> None:
    account = await session.get(Account, key)
    account.settings["ui"]["theme"] = "dark"
    flag_modified(account, "settings")


async def flagged_plain(session: AsyncSession, user: User) -> None:
    user.profile["name"] = "x"
    flag_modified(user, "profile")


async def a_deep_copy(session: AsyncSession, key: int) -> None:
    account = await session.get(Account, key)
    account.settings = copy.deepcopy(account.settings)
    account.settings["ui"]["theme"] = "dark"


async def tracked(session: AsyncSession, user: User) -> None:
    user.labels["beta"] = True
    await session.commit()


async def replaced(session: AsyncSession, key: int) -> None:
    account = await session.get(Account, key)
    account.settings["ui"] = {**account.settings["ui"], "theme": "dark"}


async def in_the_database(session: AsyncSession, key: int) -> None:
    await session.execute(update(Account).values(settings=Account.settings.concat({"beta": True})))


async def of_a_relation(session: AsyncSession, key: int) -> None:
    order = await session.get(Order, key)
    order.lines.append(Line())
    order.lines[0].price = 7
