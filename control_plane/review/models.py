"""Questions and answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Review(Base):
    __tablename__ = "review"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    question: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    needed: Mapped[int]
    state: Mapped[str]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]


class ReviewAnswer(Base):
    __tablename__ = "review_answer"

    review_id: Mapped[str] = mapped_column(ForeignKey("review.id"), primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    approves: Mapped[bool]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
