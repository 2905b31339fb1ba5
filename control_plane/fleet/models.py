"""Devices, their classes, and tokens to enrol with."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class DeviceClass(Base):
    __tablename__ = "fleet_device_class"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    facts: Mapped[dict[str, Any]]


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


class Device(Base):
    __tablename__ = "fleet_device"
    __table_args__ = (Index("ix_fleet_device_stratum", "device_class", "site"),)

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
    counter_floor: Mapped[int] = mapped_column(default=0)
    active_release: Mapped[str | None]
    active_content: Mapped[str | None] = mapped_column(index=True)
    active_counter: Mapped[int | None]
    deployment: Mapped[dict[str, Any] | None]
    platform: Mapped[dict[str, Any]]
    spool: Mapped[dict[str, Any]]
