"""Telemetry as the API gives it."""

from datetime import datetime
from typing import Any

from control_plane.kit.pages import Schema
from control_plane.telemetry.domain import RecordingState


class FieldEventItem(Schema):
    number: int
    event_id: str
    kind: str
    device_id: str
    site: str
    device_class: str
    content_digest: str
    at: datetime
    received_at: datetime
    details: dict[str, Any]


class RecordingItem(Schema):
    sha256: str
    device_id: str
    site: str
    size_bytes: int
    trigger: str
    event_id: str | None
    content_digest: str
    started_at: datetime
    ended_at: datetime
    state: RecordingState
    reason: str
    number: int | None
    facts: dict[str, Any]


class RateLine(Schema):
    """Exposure and events of one content at one site; the interval is clustered by device."""

    content_digest: str
    site: str
    device_class: str
    devices: int
    distance_m: float
    duration_s: float
    windows: int
    decisions: int
    energy_j: float | None
    counts: dict[str, int]


class Rate(Schema):
    """Events of some kinds per unit of exposure, over all sites, with a 95 % interval clustered by device."""

    content_digest: str
    events: int
    exposure: float
    unit: str
    rate: float | None
    low: float | None
    high: float | None
    devices: int


class ContentChange(Schema):
    """From when on a device's windows tell of this content."""

    at: datetime
    content_digest: str


class DeviceSeries(Schema):
    """What one device measured, step by step from `starts_at` on; None where it said nothing.

    Latencies in milliseconds: the mean of the medians by decisions, and the greatest p99. Power in watts, over the time
    for which energy was measured, with the least and the greatest of a window. Distance in metres, exposure in seconds.
    Heat in °C: the hottest and the coolest of the windows' hottest readings; throttling in seconds. Events by kind.
    """

    device_id: str
    starts_at: datetime
    step_s: int
    latency_p50_ms: list[float | None]
    latency_p99_ms: list[float | None]
    power_w: list[float | None]
    power_min_w: list[float | None]
    power_max_w: list[float | None]
    distance_m: list[float | None]
    duration_s: list[float | None]
    heat_c: list[float | None]
    heat_min_c: list[float | None]
    throttled_s: list[float | None]
    counts: list[dict[str, int] | None]
    changes: list[ContentChange]
