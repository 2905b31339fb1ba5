"""Suites, evaluations, their cases, and what the gate said."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Suite(Base):
    """`scenarios` lists [id, cluster, seed, tags, repeats, source, fingerprint] in the suite's own order.

    Rows from before there was more end after the cluster. `version` counts suites of the same model and name.
    """

    __tablename__ = "evaluation_suite"

    digest: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    model: Mapped[str]
    simulator: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    scenarios: Mapped[list[Any]]
    tags: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(server_default="1")
    metric_definition: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Evaluation(Base):
    __tablename__ = "evaluation"

    id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    content_digest: Mapped[str] = mapped_column(index=True)
    model_sha256: Mapped[str]
    suite: Mapped[str] = mapped_column(ForeignKey("evaluation_suite.digest"))
    run_id: Mapped[str | None]
    nondeterminism: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EvaluationCase(Base):
    __tablename__ = "evaluation_case"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    scenario: Mapped[str] = mapped_column(primary_key=True)
    cluster: Mapped[str]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    evidence_sha256: Mapped[str]
    job_key: Mapped[str]


class Gate(Base):
    __tablename__ = "evaluation_gate"
    __table_args__ = (Index("ix_evaluation_gate_candidate", "candidate"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str]
    candidate: Mapped[str]
    champion: Mapped[str | None]
    policy: Mapped[dict[str, Any]]
    policy_digest: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    attempt: Mapped[int]
    verdict: Mapped[str]
    because: Mapped[str]
    parts: Mapped[list[Any]]
    flips: Mapped[list[Any]]
    device_classes: Mapped[list[str]]
    evidence_sha256: Mapped[str] = mapped_column(server_default="")
    looks: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    predicted: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HoldoutUseRow(Base):
    """One candidate's look at one hidden suite, and what it was told."""

    __tablename__ = "evaluation_holdout_use"

    suite: Mapped[str] = mapped_column(ForeignKey("evaluation_suite.digest"), primary_key=True)
    candidate: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    gate_id: Mapped[str]
    answers: Mapped[list[Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class IncidentScenario(Base):
    """An incident of the field as a scenario, and whether it happens again with the model that was to blame."""

    __tablename__ = "evaluation_scenario"

    model: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    recording: Mapped[str | None]
    guilty: Mapped[str]
    seeds: Mapped[int]
    failures: Mapped[int]
    state: Mapped[str]
    because: Mapped[str]
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GateReplay(Base):
    """What one model did in one scenario that people are asked about; the file is in the object store."""

    __tablename__ = "evaluation_replay"

    gate_id: Mapped[str] = mapped_column(ForeignKey("evaluation_gate.id"), primary_key=True)
    suite: Mapped[str] = mapped_column(primary_key=True)
    scenario: Mapped[str] = mapped_column(primary_key=True)
    side: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str]
    agrees: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
