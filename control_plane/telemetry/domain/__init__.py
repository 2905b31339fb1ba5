"""Decisions about what arrives: batches (`arrivals`), their sums (`exposure`), the inside of a recording."""

from control_plane.telemetry.domain.arrivals import (
    Quota,
    RecordingState,
    fresh,
    incidents,
    out_of_order,
    out_of_time,
    why_decline,
)
from control_plane.telemetry.domain.exposure import (
    AMOUNT_MOST,
    LATEST_ARRIVAL,
    PANEL_BITS,
    CellKey,
    CellLine,
    DeviceSum,
    Place,
    Tally,
    add_to,
    bounded,
    bounded_counts,
    by_content,
    halvings_needed,
    in_panel,
    tally,
)
from control_plane.telemetry.domain.reading import read_plain
from control_plane.telemetry.domain.recording import RecordingError, inspect_recording

__all__ = [
    "AMOUNT_MOST",
    "LATEST_ARRIVAL",
    "PANEL_BITS",
    "CellKey",
    "CellLine",
    "DeviceSum",
    "Place",
    "Quota",
    "RecordingError",
    "RecordingState",
    "Tally",
    "add_to",
    "bounded",
    "bounded_counts",
    "by_content",
    "fresh",
    "halvings_needed",
    "in_panel",
    "incidents",
    "inspect_recording",
    "out_of_order",
    "out_of_time",
    "read_plain",
    "tally",
    "why_decline",
]
