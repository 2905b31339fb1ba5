"""Training runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Training(Base):
    __tablename__ = "training_run"

    key: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    dataset: Mapped[str | None]
    parent: Mapped[str | None]
    recipe: Mapped[dict[str, Any]]
    code: Mapped[str]
    seed: Mapped[int]
    run_id: Mapped[str | None] = mapped_column(index=True)
    state: Mapped[str]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
