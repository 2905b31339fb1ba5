"""Clusters and jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Cluster(Base):
    __tablename__ = "factory_cluster"

    name: Mapped[str] = mapped_column(primary_key=True)
    backend: Mapped[str]
    usd_per_hour: Mapped[float]
    watts: Mapped[float]
    note: Mapped[str]
    cpus: Mapped[float | None]
    gpus: Mapped[float] = mapped_column(server_default="0")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    slots: Mapped[int | None]
    speed: Mapped[float] = mapped_column(server_default="1")
    queue_s: Mapped[float] = mapped_column(server_default="0")
    usd_per_gpu_hour: Mapped[float] = mapped_column(server_default="0")
    gpu_watts: Mapped[float] = mapped_column(server_default="0")


class Job(Base):
    __tablename__ = "factory_job"
    __table_args__ = (
        Index("ix_factory_job_unfinished", "cluster", postgresql_where=text("state in ('queued', 'running')")),
        Index(
            "ix_factory_job_took",
            "cluster",
            "kind",
            "created_at",
            postgresql_where=text("state = 'done' and attempt = 1"),
        ),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    cluster: Mapped[str] = mapped_column(ForeignKey("factory_cluster.name"))
    run_id: Mapped[str | None] = mapped_column(index=True)
    wanted_by: Mapped[list[str]] = mapped_column(server_default="[]")
    subject: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str]
    asked: Mapped[int] = mapped_column(default=1, server_default="1")
    attempt: Mapped[int] = mapped_column(default=0)
    holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    cancel_reason: Mapped[str | None]
    placement: Mapped[dict[str, Any] | None]
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
