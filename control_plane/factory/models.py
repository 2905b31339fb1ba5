"""Clusters and jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Cluster(Base):
    __tablename__ = "factory_cluster"

    name: Mapped[str] = mapped_column(primary_key=True)
    backend: Mapped[str]
    usd_per_hour: Mapped[float]
    watts: Mapped[float]
    note: Mapped[str]


class Job(Base):
    __tablename__ = "factory_job"

    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    cluster: Mapped[str] = mapped_column(ForeignKey("factory_cluster.name"))
    run_id: Mapped[str | None] = mapped_column(index=True)
    subject: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    note: Mapped[str] = mapped_column(default="")
    outputs: Mapped[dict[str, Any] | None]
    failure: Mapped[str | None]
    wall_s: Mapped[float] = mapped_column(default=0.0)
    cpu_s: Mapped[float] = mapped_column(default=0.0)
    gpu_s: Mapped[float] = mapped_column(default=0.0)
    usd: Mapped[float] = mapped_column(default=0.0)
    energy_j: Mapped[float] = mapped_column(default=0.0)
    energy_is_estimate: Mapped[bool] = mapped_column(default=True)
