"""Models, versions, releases."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, UniqueConstraint, func
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
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
