"""Decisions about what arrives: batches (`arrivals`), the inside of a recording (`recording`), rates (`rates`)."""

from control_plane.telemetry.domain.arrivals import (
    Quota,
    RecordingState,
    fresh,
    incidents,
    out_of_order,
    out_of_time,
    why_decline,
)
from control_plane.telemetry.domain.recording import RecordingError, inspect_recording

__all__ = [
    "Quota",
    "RecordingError",
    "RecordingState",
    "fresh",
    "incidents",
    "inspect_recording",
    "out_of_order",
    "out_of_time",
    "why_decline",
]
