"""People and sessions; API tokens are the kit's."""

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, String, Table, func, true
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Person(Base):
    """`password` is an argon2id hash; `subject` is whom a provider vouches for, as `ISSUER SUB`."""

    __tablename__ = "access_person"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password: Mapped[str | None]
    subject: Mapped[str | None] = mapped_column(unique=True)
    active: Mapped[bool] = mapped_column(server_default=true(), default=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime | None]


class AccessSession(Base):
    """`hash` is of the cookie's secret; `name` is a token's or a person's, by `way`."""

    __tablename__ = "access_session"

    hash: Mapped[str] = mapped_column(primary_key=True)
    way: Mapped[str]
    name: Mapped[str] = mapped_column(index=True)
    made_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)


attempt = Table(
    "access_attempt",
    Base.metadata,
    Column("key", String, nullable=False),
    Column("at", DateTime(timezone=True), server_default=func.now(), nullable=False, index=True),
    Index("ix_access_attempt_key", "key", "at"),
    prefixes=["UNLOGGED"],
)
"""Attempts to sign in; `key` is an address or a name. Unlogged: after a crash nobody has tried."""
