"""Streams, windows, events, recordings and sums. Windows and events are partitioned by time."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.kit.db import Base


class Stream(Base):
    """How far a device's spool has been taken over."""

    __tablename__ = "telemetry_stream"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    acknowledged_seq: Mapped[int] = mapped_column(BigInteger)


class Window(Base):
    __tablename__ = "telemetry_window"
    __table_args__ = (
        Index("ix_telemetry_window_content", "content_digest", "received_at"),
        {"postgresql_partition_by": "RANGE (received_at)"},
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    received_at: Mapped[datetime] = mapped_column(primary_key=True)
    site: Mapped[str]
    device_class: Mapped[str]
    content_digest: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    distance_m: Mapped[float]
    duration_s: Mapped[float]
    decisions: Mapped[int] = mapped_column(BigInteger)
    energy_j: Mapped[float | None]
    counts: Mapped[dict[str, Any]]
    latency_p50_ms: Mapped[float]
    latency_p99_ms: Mapped[float]
    temperature_max_c: Mapped[float | None]
    throttled_s: Mapped[float | None]
    attested: Mapped[bool] = mapped_column(server_default=text("true"))


class FieldEvent(Base):
    __tablename__ = "telemetry_event"
    __table_args__ = (
        Index("ix_telemetry_event_event_id", "event_id"),
        Index("ix_telemetry_event_number", "number"),
        Index("ix_telemetry_event_device", "device_id", "number"),
        {"postgresql_partition_by": "RANGE (received_at)"},
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stream_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    received_at: Mapped[datetime] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity())
    event_id: Mapped[str]
    kind: Mapped[str]
    site: Mapped[str]
    device_class: Mapped[str]
    content_digest: Mapped[str]
    at: Mapped[datetime]
    details: Mapped[dict[str, Any]]


class Cell(Base):
    """What devices of a class did with one content at one site within `width_s` of event time.

    `changed` is the last transaction that wrote it, so that a reader can ask for what may have changed since.
    """

    __tablename__ = "telemetry_cell"
    __table_args__ = (
        Index(
            "ix_telemetry_cell_changed",
            "changed",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
        ),
        Index("ix_telemetry_cell_starts_at", "starts_at"),
    )

    device_class: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    content_digest: Mapped[str] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    width_s: Mapped[int]
    first_window_at: Mapped[datetime]
    distance_mm: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    decisions: Mapped[int] = mapped_column(BigInteger)
    energy_mj: Mapped[int | None] = mapped_column(BigInteger)
    windows: Mapped[int] = mapped_column(BigInteger)
    counts: Mapped[dict[str, Any]]
    changed: Mapped[int] = mapped_column(BigInteger)


class Total(Base):
    """All cells of a stratum and content together, whatever became of them since: pages read no history."""

    __tablename__ = "telemetry_total"

    device_class: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    content_digest: Mapped[str] = mapped_column(primary_key=True)
    distance_mm: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    decisions: Mapped[int] = mapped_column(BigInteger)
    energy_mj: Mapped[int | None] = mapped_column(BigInteger)
    windows: Mapped[int] = mapped_column(BigInteger)
    counts: Mapped[dict[str, Any]]


class DeviceSum(Base):
    """What one device of the panel did with one content."""

    __tablename__ = "telemetry_device_sum"
    __table_args__ = (Index("ix_telemetry_device_sum_content", "content_digest", "device_class"),)

    device_id: Mapped[str] = mapped_column(primary_key=True)
    content_digest: Mapped[str] = mapped_column(primary_key=True)
    device_class: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    distance_mm: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    windows: Mapped[int] = mapped_column(BigInteger)
    counts: Mapped[dict[str, Any]]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class Attested(Base):
    """A content that a device has said in a check-in it runs; a trigger on the device's row writes it."""

    __tablename__ = "telemetry_attested"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    content_digest: Mapped[str] = mapped_column(primary_key=True)
    said_at: Mapped[datetime]


class Panel(Base):
    """How often the share of devices whose sums are kept has been halved; one row."""

    __tablename__ = "telemetry_panel"

    name: Mapped[str] = mapped_column(primary_key=True)
    halvings: Mapped[int]


class Recording(Base):
    __tablename__ = "telemetry_recording"
    __table_args__ = (Index("ix_telemetry_recording_stored", "number", postgresql_where="state = 'stored'"),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(index=True)
    site: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    trigger: Mapped[str]
    event_id: Mapped[str | None] = mapped_column(index=True)
    content_digest: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    announced_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str]
    reason: Mapped[str]
    number: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    facts: Mapped[dict[str, Any]]
