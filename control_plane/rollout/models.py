"""Rollouts, what was decided about them, each device's way through, and the baseline of every class."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class RolloutRow(Base):
    """By stratum ("SITE|CLASS") and stage: `limits` are thresholds, `counts` devices under them; `sizes`: all."""

    __tablename__ = "rollout"

    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    release: Mapped[str] = mapped_column(ForeignKey("registry_release.digest"))
    content_digest: Mapped[str]
    counter: Mapped[int]
    device_classes: Mapped[list[str]]
    sites: Mapped[list[Any] | None]
    champion: Mapped[str | None]
    restore_release: Mapped[str | None]
    plan: Mapped[dict[str, Any]]
    gate_id: Mapped[str | None]
    gate_verdict: Mapped[str | None]
    override_reason: Mapped[str]
    wishes: Mapped[dict[str, Any]]
    phase: Mapped[str] = mapped_column(index=True)
    stage: Mapped[int]
    stage_since: Mapped[datetime | None]
    exposure_before: Mapped[float]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    limits: Mapped[dict[str, Any]]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    sizes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    offering: Mapped[bool]
    wave: Mapped[int] = mapped_column(default=0, server_default="0")
    wave_since: Mapped[datetime | None]
    preempts: Mapped[list[str]] = mapped_column(server_default=text("'[]'::jsonb"))
    preempted_by: Mapped[str] = mapped_column(default="", server_default="")
    forecast: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    plan_override: Mapped[str] = mapped_column(default="", server_default="")
    because: Mapped[str]
    figures: Mapped[dict[str, Any]]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RolloutDecision(Base):
    """One tick whose answer was new, with its figures, and in `evidence` all that it was decided from."""

    __tablename__ = "rollout_decision"
    __table_args__ = (Index("ix_rollout_decision_rollout", "rollout_id", "number"),)

    number: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollout.id"))
    at: Mapped[datetime]
    phase: Mapped[str]
    stage: Mapped[int]
    because: Mapped[str]
    figures: Mapped[dict[str, Any]]
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))


class Tally(Base):
    """How many devices stand how, kept by triggers on the deployments: a decision counts nobody."""

    __tablename__ = "rollout_tally"

    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    device_class: Mapped[str] = mapped_column(primary_key=True)
    standing: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[int] = mapped_column(BigInteger)


class Deployment(Base):
    __tablename__ = "rollout_deployment"
    __table_args__ = (
        Index("ix_rollout_deployment_standing", "rollout_id", "standing", "device_id"),
        Index("ix_rollout_deployment_device", "device_id"),
    )

    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollout.id"), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("fleet_device.id"), primary_key=True)
    site: Mapped[str]
    device_class: Mapped[str]
    offered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime]
    phase: Mapped[str]
    reason: Mapped[str | None]
    detail: Mapped[str]
    active_content: Mapped[str | None]
    qualification: Mapped[dict[str, Any]]
    site_granted_until: Mapped[datetime | None]
    standing: Mapped[str] = mapped_column(default="offered", server_default="offered")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    looked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cell: Mapped[str | None]


class Baseline(Base):
    """What a class's devices run when no rollout says otherwise; at one site, or ("") wherever no site has its own."""

    __tablename__ = "rollout_baseline"

    device_class: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True, default="", server_default="")
    release: Mapped[str] = mapped_column(ForeignKey("registry_release.digest"))
    content_digest: Mapped[str]
    counter: Mapped[int]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
