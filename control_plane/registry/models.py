"""Models, versions, releases, and the TUF repository."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Model(Base):
    __tablename__ = "registry_model"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    contract: Mapped[dict[str, Any]]
    events: Mapped[dict[str, Any]]
    exposure: Mapped[str]
    gate: Mapped[dict[str, Any]]
    rollout: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelVersion(Base):
    __tablename__ = "registry_version"
    __table_args__ = (UniqueConstraint("model", "version"), UniqueConstraint("model", "content_digest"))

    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("registry_model.name"))
    version: Mapped[int]
    content_digest: Mapped[str] = mapped_column(index=True)
    content: Mapped[dict[str, Any]]
    checkpoint: Mapped[dict[str, Any]]
    parent: Mapped[str | None]
    dataset: Mapped[str | None]
    training: Mapped[str | None]
    label: Mapped[str]
    card: Mapped[dict[str, Any]]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Artifact(Base):
    """A file that devices may fetch."""

    __tablename__ = "registry_artifact"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]


class Release(Base):
    __tablename__ = "registry_release"
    __table_args__ = (UniqueConstraint("model", "counter"),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("registry_model.name"))
    version: Mapped[int]
    counter: Mapped[int]
    content_digest: Mapped[str] = mapped_column(index=True)
    device_classes: Mapped[list[str]]
    manifest: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str]
    approvals_needed: Mapped[int]
    way_back_of: Mapped[str | None] = mapped_column(index=True)
    published_revision: Mapped[int | None] = mapped_column(BigInteger)
    waits_for: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Attestation(Base):
    """A signed statement about a content or a release, as the exact bytes that came."""

    __tablename__ = "registry_attestation"

    envelope_sha256: Mapped[str] = mapped_column(primary_key=True)
    subject_sha256: Mapped[str] = mapped_column(index=True)
    predicate_type: Mapped[str]
    keyids: Mapped[list[str]]
    owners: Mapped[list[str]]
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    policy_version: Mapped[int]
    received_by: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TufMetadata(Base):
    """Signed metadata, as the exact bytes; rows are never changed, and those of root never deleted."""

    __tablename__ = "registry_tuf_metadata"

    role: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    published_at: Mapped[datetime]


class TufTarget(Base):
    """A file that TUF lists; one with `replaced_at` is only kept for clients in the middle of a refresh."""

    __tablename__ = "registry_tuf_target"
    __table_args__ = (
        Index("uq_registry_tuf_target_current", "path", unique=True, postgresql_where=text("replaced_at IS NULL")),
        Index("ix_registry_tuf_target_role", "role"),
    )

    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    length_bytes: Mapped[int] = mapped_column(BigInteger)
    custom: Mapped[dict[str, Any] | None]
    replaced_at: Mapped[datetime | None]


class TrustAlarm(Base):
    """Something about keys or metadata that a person must see to."""

    __tablename__ = "registry_trust_alarm"

    subject: Mapped[str] = mapped_column(primary_key=True)
    because: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
