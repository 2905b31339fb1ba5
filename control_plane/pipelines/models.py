"""Pipelines and their runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Pipeline(Base):
    __tablename__ = "pipeline"

    name: Mapped[str] = mapped_column(primary_key=True)
    flow: Mapped[str]
    model: Mapped[str]
    params: Mapped[dict[str, Any]]
    trigger: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    event_cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    last_run_at: Mapped[datetime | None]


class PipelineRun(Base):
    __tablename__ = "pipeline_run"

    id: Mapped[str] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(ForeignKey("pipeline.name"), index=True)
    flow: Mapped[str]
    params: Mapped[dict[str, Any]]
    because: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str]
    attempt: Mapped[int]
    orchestrator_id: Mapped[str | None]
    submitted_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    steps: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]
    failure: Mapped[str | None]
    traceparent: Mapped[str | None]
