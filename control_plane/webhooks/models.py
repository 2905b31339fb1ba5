"""Subscriptions and what was delivered to them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, func, text, true
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Webhook(Base):
    """`epoch` counts its secrets; `failures` counts failed attempts in a row; `because`: why inactive.

    `form`: "fleetloop" for what people subscribe to, "openlineage" for the one that a setting makes.
    """

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    url: Mapped[str]
    topics: Mapped[list[Any]]
    form: Mapped[str] = mapped_column(server_default="fleetloop", default="fleetloop")
    epoch: Mapped[int] = mapped_column(server_default="1", default=1)
    active: Mapped[bool] = mapped_column(server_default=true(), default=True)
    failures: Mapped[int] = mapped_column(server_default="0", default=0)
    because: Mapped[str] = mapped_column(server_default="", default="")
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Delivery(Base):
    """`body` is what is sent, to the byte; `note` is what went wrong with the last attempt.

    Of one `line` the first by id goes before the others; null stands in none.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index("ix_webhook_delivery_of", "webhook_id", "created_at"),
        Index("ix_webhook_delivery_due", "next_at", postgresql_where=text("state = 'waiting'")),
        Index(
            "ix_webhook_delivery_line",
            "webhook_id",
            "line",
            "id",
            postgresql_where=text("state = 'waiting' and line is not null"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    topic: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0", default=0)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[int | None]
    note: Mapped[str] = mapped_column(server_default="", default="")
    elapsed_ms: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tried_at: Mapped[datetime | None]
    line: Mapped[str | None]
