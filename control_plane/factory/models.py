"""Clusters and jobs, exporters and what they said."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
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
    usd_per_kwh: Mapped[float] = mapped_column(server_default="0")


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
    traceparent: Mapped[str | None]


class Exporter(Base):
    """`reading` is what the next scrape is compared with; `places` are machine and number of each GPU it told of."""

    __tablename__ = "factory_exporter"
    __table_args__ = (UniqueConstraint("cluster", "url"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    cluster: Mapped[str] = mapped_column(ForeignKey("factory_cluster.name", ondelete="CASCADE"))
    kind: Mapped[str]
    url: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    next_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    tried_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(server_default="", default="")
    dropped: Mapped[int] = mapped_column(server_default="0", default=0)
    started_at: Mapped[datetime | None]
    reading: Mapped[dict[str, Any] | None]
    places: Mapped[dict[str, Any]] = mapped_column(server_default="{}", default=dict)


class Meter(Base):
    """What one source of an exporter did in one minute; null is not told. Scrapes are counted at the source ""."""

    __tablename__ = "factory_meter"

    exporter: Mapped[str] = mapped_column(ForeignKey("factory_exporter.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    tries: Mapped[int] = mapped_column(server_default="0", default=0)
    answers: Mapped[int] = mapped_column(server_default="0", default=0)
    covered_s: Mapped[float] = mapped_column(server_default="0", default=0.0)
    energy_j: Mapped[float | None]
    busy_s: Mapped[float | None]
    capacity_s: Mapped[float | None]
    tokens_out: Mapped[float | None]
    tokens_in: Mapped[float | None]
    requests: Mapped[float | None]
    queue_s: Mapped[float | None]
    histograms: Mapped[dict[str, Any] | None]


class Use(Base):
    """The GPUs that one attempt of a job held, and what they were measured to take; `estimate_j` was charged first."""

    __tablename__ = "factory_use"
    __table_args__ = (
        Index("ix_factory_use_open", "ended_at", postgresql_where=text("settled_at is null")),
        Index("ix_factory_use_of", "cluster", "began_at"),
    )

    job: Mapped[str] = mapped_column(ForeignKey("factory_job.key", ondelete="CASCADE"), primary_key=True)
    asked: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    cluster: Mapped[str]
    node: Mapped[str]
    gpu_ids: Mapped[list[str]]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    estimate_j: Mapped[float] = mapped_column(server_default="0", default=0.0)
    energy_j: Mapped[float | None]
    busy: Mapped[float | None]
    covered: Mapped[float | None]
    note: Mapped[str] = mapped_column(server_default="", default="")
    settled_at: Mapped[datetime | None]
