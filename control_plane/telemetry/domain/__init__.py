"""Decisions about what arrives: batches (`arrivals`), their sums (`exposure`), recordings.

Of a recording: whether it is sound (`recording`), and what it shows (`layout`, `contents`, `replay`, `scene`).
"""

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
    Measured,
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
from control_plane.telemetry.domain.replay import replay_of
from control_plane.telemetry.domain.scene import MAX_STEPS, RecordedReplay, ReplayRobot, ReplayStep, ReplayWorld

__all__ = [
    "AMOUNT_MOST",
    "LATEST_ARRIVAL",
    "MAX_STEPS",
    "PANEL_BITS",
    "SHORTEST_S",
    "CellKey",
    "CellLine",
    "DeviceSum",
    "Measured",
    "Place",
    "Quota",
    "RecordedReplay",
    "RecordingError",
    "RecordingState",
    "ReplayRobot",
    "ReplayStep",
    "ReplayWorld",
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
    "replay_of",
    "tally",
    "why_decline",
]
