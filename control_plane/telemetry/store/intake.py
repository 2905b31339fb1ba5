"""Telemetry in: windows and events by COPY, each stream once."""

import json
from collections.abc import Sequence
from datetime import datetime

from agents.protocol import v1 as wire
from control_plane.kit.db import Session, copy_rows, execute, row

WINDOW_COLUMNS = (
    "device_id",
    "stream_id",
    "seq",
    "received_at",
    "site",
    "device_class",
    "content_digest",
    "started_at",
    "ended_at",
    "distance_m",
    "duration_s",
    "decisions",
    "energy_j",
    "counts",
    "latency_p50_ms",
    "latency_p99_ms",
)
EVENT_COLUMNS = (
    "device_id",
    "stream_id",
    "seq",
    "received_at",
    "event_id",
    "kind",
    "site",
    "device_class",
    "content_digest",
    "at",
    "details",
)


async def lock_stream(session: Session, device_id: str, stream_id: str) -> int:
    """Take the stream's row for this transaction and return what it has acknowledged."""
    found = await row(
        session,
        """insert into telemetry_stream (device_id, stream_id, acknowledged_seq) values (:device, :stream, -1)
           on conflict (device_id, stream_id) do update set device_id = excluded.device_id
           returning acknowledged_seq""",
        device=device_id,
        stream=stream_id,
    )
    return int(found["acknowledged_seq"]) if found else -1


async def acknowledge(session: Session, device_id: str, stream_id: str, seq: int) -> None:
    await execute(
        session,
        "update telemetry_stream set acknowledged_seq = :seq where device_id = :device and stream_id = :stream",
        seq=seq,
        device=device_id,
        stream=stream_id,
    )


async def copy_windows(
    session: Session, who: tuple[str, str, str], stream_id: str, at: datetime, windows: Sequence[wire.ExposureWindow]
) -> None:
    device_id, site, device_class = who
    await copy_rows(
        session,
        "telemetry_window",
        WINDOW_COLUMNS,
        [
            (
                device_id,
                stream_id,
                w.seq,
                at,
                site,
                device_class,
                w.content_digest,
                w.started_at,
                w.ended_at,
                w.distance_m,
                w.duration_s,
                w.decisions,
                w.energy_j,
                json.dumps(w.counts),
                w.latency_p50_ms,
                w.latency_p99_ms,
            )
            for w in windows
        ],
    )


async def copy_events(
    session: Session, who: tuple[str, str, str], stream_id: str, at: datetime, events: Sequence[wire.FieldEvent]
) -> None:
    device_id, site, device_class = who
    await copy_rows(
        session,
        "telemetry_event",
        EVENT_COLUMNS,
        [
            (
                device_id,
                stream_id,
                e.seq,
                at,
                e.event_id,
                e.kind,
                site,
                device_class,
                e.content_digest,
                e.at,
                json.dumps(e.details),
            )
            for e in events
        ],
    )
