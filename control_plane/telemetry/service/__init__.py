"""Take telemetry in exactly once; take recordings if they are wanted and sound; give sums out."""

from control_plane.telemetry.service.events import count_events_since, list_events, numbers_of
from control_plane.telemetry.service.exposure import cells, device_sums, pace, rate, sums
from control_plane.telemetry.service.intake import TRACED, Batch, batch_of, take_batch
from control_plane.telemetry.service.queue import Intake
from control_plane.telemetry.service.recordings import (
    announce,
    complete,
    get_recording,
    list_recordings,
    read_replay,
    recorded,
    recordings_of,
)
from control_plane.telemetry.service.series import device_series
from control_plane.telemetry.service.upkeep import Retention, ensure_partitions, maintain

__all__ = [
    "TRACED",
    "Batch",
    "Intake",
    "Retention",
    "announce",
    "batch_of",
    "cells",
    "complete",
    "count_events_since",
    "device_series",
    "device_sums",
    "ensure_partitions",
    "get_recording",
    "list_events",
    "list_recordings",
    "maintain",
    "numbers_of",
    "pace",
    "rate",
    "read_replay",
    "recorded",
    "recordings_of",
    "sums",
    "take_batch",
]
