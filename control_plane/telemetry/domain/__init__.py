"""Decisions about what arrives: batches (`arrivals`), their sums (`exposure`), the inside of a recording."""

from control_plane.telemetry.domain.arrivals import (
    Quota,
    RecordingState,
    first_to_wait,
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
from control_plane.telemetry.domain.pacing import SHORTEST_S, look_s, paced
from control_plane.telemetry.domain.reading import read_plain
from control_plane.telemetry.domain.recording import RecordingError, inspect_recording

__all__ = [
    "AMOUNT_MOST",
    "LATEST_ARRIVAL",
    "PANEL_BITS",
    "SHORTEST_S",
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
    "first_to_wait",
    "fresh",
    "halvings_needed",
    "in_panel",
    "incidents",
    "inspect_recording",
    "look_s",
    "out_of_order",
    "out_of_time",
    "paced",
    "read_plain",
    "tally",
    "why_decline",
]
