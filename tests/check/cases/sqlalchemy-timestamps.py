import datetime as dt
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlmodel import Field, SQLModel


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))  # finds
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())  # finds
    paid_at: Mapped[datetime | None]  # finds
    sent_at: Mapped[dt.datetime | None] = mapped_column(nullable=True)  # finds
    seen_at: Mapped[datetime] = mapped_column(DateTime, default=dt.datetime.now(dt.timezone.utc))  # finds
    read_at: Mapped[datetime] = mapped_column(DateTime())  # finds
    zoned: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    of_the_dialect: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    own_type: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    day: Mapped[dt.date]
    lines: Mapped[list["Line"]] = relationship()


class Old(Declared):
    created = Column(sa.DateTime, default=datetime.utcnow)  # finds
    changed = sa.Column("changed", sa.DateTime(), onupdate=lambda: datetime.now(tz=UTC))  # finds
    both = Column(DateTime(timezone=True), default=datetime.utcnow)  # finds
    right = Column(DateTime(timezone=True), server_default=func.now())
    name = Column(sa.String, default="now")


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))  # finds
    ended_at: datetime | None = None  # finds
    zoned: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    born: dt.date | None = None


class HeroPublic(SQLModel):
    created_at: datetime


class Line(Other):
    added_at: datetime = field(default_factory=datetime.now)
