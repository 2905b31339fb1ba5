"""Devices, their classes, tokens to enrol with, and how the fleet page lists and counts them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class DeviceClass(Base):
    __tablename__ = "fleet_device_class"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    facts: Mapped[dict[str, Any]]
    safe_state: Mapped[str] = mapped_column(server_default="")


class EnrolmentToken(Base):
    __tablename__ = "fleet_enrolment_token"

    hash: Mapped[str] = mapped_column(primary_key=True)
    device_class: Mapped[str] = mapped_column(ForeignKey("fleet_device_class.name"))
    site: Mapped[str | None]
    serial: Mapped[str | None]
    created_by: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None]
    failures: Mapped[int] = mapped_column(default=0, server_default="0")


class Device(Base):
    __tablename__ = "fleet_device"
    __table_args__ = (
        Index("ix_fleet_device_stratum", "device_class", "site"),
        Index(
            "ix_fleet_device_floor", "device_class", "site", "counter_floor", postgresql_where=text("state = 'active'")
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    serial: Mapped[str] = mapped_column(unique=True)
    public_key_pem: Mapped[str]
    key_sha256: Mapped[str] = mapped_column(unique=True)
    device_class: Mapped[str] = mapped_column(ForeignKey("fleet_device_class.name"))
    site: Mapped[str]
    labels: Mapped[dict[str, Any]]
    state: Mapped[str]
    agent_version: Mapped[str]
    enrolled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime | None]
    boots: Mapped[list[str]]
    last_seq: Mapped[int] = mapped_column(BigInteger, default=-1)
    last_nonce: Mapped[str | None]
    boot_ends: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    certificate_expires_at: Mapped[datetime | None]
    counter_floor: Mapped[int] = mapped_column(default=0)
    active_release: Mapped[str | None]
    active_content: Mapped[str | None] = mapped_column(index=True)
    active_counter: Mapped[int | None]
    deployment: Mapped[dict[str, Any] | None]
    platform: Mapped[dict[str, Any]]
    spool: Mapped[dict[str, Any]]


class Stratum(Base):
    """How many active devices are of a class at a site; triggers on `fleet_device` keep it (migration 0008)."""

    __tablename__ = "fleet_stratum"

    device_class: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[int] = mapped_column(BigInteger)


BY_BYTES = String(collation="C")
"""Names that are compared byte by byte: quick, and a prefix is a range of any index."""


class Listing(Base):
    """A device as lists are filtered and sorted by; triggers on `fleet_device` keep it (migration 0013)."""

    __tablename__ = "fleet_listing"
    __table_args__ = (
        Index("ix_fleet_listing_serial", "serial", unique=True),
        Index("ix_fleet_listing_site", "site", "serial"),
        Index("ix_fleet_listing_device_class", "device_class", "serial"),
        Index("ix_fleet_listing_content", "content", "serial"),
        Index("ix_fleet_listing_health", "health", "serial"),
        Index("ix_fleet_listing_waiting", "waiting", "serial", postgresql_where=text("waiting <> ''")),
    )

    device_id: Mapped[str] = mapped_column(BY_BYTES, primary_key=True)
    serial: Mapped[str] = mapped_column(BY_BYTES)
    site: Mapped[str] = mapped_column(BY_BYTES)
    device_class: Mapped[str] = mapped_column(BY_BYTES)
    content: Mapped[str] = mapped_column(BY_BYTES)
    health: Mapped[str] = mapped_column(BY_BYTES)
    waiting: Mapped[str] = mapped_column(BY_BYTES)


FACETS = ("site", "device_class", "content", "health", "waiting")
facet = Table(
    "fleet_facet",
    Base.metadata,
    *(Column(name, BY_BYTES, nullable=False) for name in FACETS),
    Column("devices", BigInteger, nullable=False),
)
"""Counts of listings by all facets, as differences that add up: a cell may have many rows until they are folded."""


class View(Base):
    """A filter of the fleet page that somebody gave a name."""

    __tablename__ = "fleet_view"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    query: Mapped[str]
    shared: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Certificate(Base):
    """Every certificate the authority gave to a device."""

    __tablename__ = "fleet_certificate"

    serial: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("fleet_device.id"), index=True)
    key_sha256: Mapped[str]
    because: Mapped[str]
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class DeniedKey(Base):
    """A key nobody is heard with any more, by the sha256 of its SubjectPublicKeyInfo."""

    __tablename__ = "fleet_denied_key"

    key_sha256: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str | None]
    reason: Mapped[str]
    compromised_since: Mapped[datetime | None]
    denied_by: Mapped[str]
    denied_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EnrolmentConflict(Base):
    """Somebody enrols with the serial of a known device and another key: a person decides whose it is."""

    __tablename__ = "fleet_enrolment_conflict"
    __table_args__ = (UniqueConstraint("device_id", "key_sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("fleet_device.id"), index=True)
    serial: Mapped[str]
    public_key_pem: Mapped[str]
    key_sha256: Mapped[str]
    token_hash: Mapped[str] = mapped_column(ForeignKey("fleet_enrolment_token.hash"))
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    reason: Mapped[str | None]


class Statement(Base):
    """What a device swore to, as the bytes it sent: a DSSE envelope of an install report or of a recording."""

    __tablename__ = "fleet_statement"
    __table_args__ = (
        UniqueConstraint("device_id", "kind", "statement_id"),
        Index("ix_fleet_statement_subject", "subject"),
    )

    sha256: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("fleet_device.id"))
    kind: Mapped[str]
    statement_id: Mapped[str]
    subject: Mapped[str]
    key_sha256: Mapped[str]
    body: Mapped[bytes]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
