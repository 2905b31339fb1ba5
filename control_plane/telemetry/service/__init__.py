"""Take telemetry in exactly once; take recordings if they are wanted and sound; give sums out."""

from control_plane.telemetry.service.events import count_events_since, list_events
from control_plane.telemetry.service.exposure import by_device, cells, device_sums, increments, rate, sums
from control_plane.telemetry.service.intake import Batch, batch_of, take_batch
from control_plane.telemetry.service.queue import Intake
from control_plane.telemetry.service.recordings import announce, complete, get_recording, list_recordings
from control_plane.telemetry.service.upkeep import Retention, ensure_partitions, maintain

__all__ = [
    "Batch",
    "Intake",
    "Retention",
    "announce",
    "batch_of",
    "by_device",
    "cells",
    "complete",
    "count_events_since",
    "device_sums",
    "ensure_partitions",
    "get_recording",
    "increments",
    "list_events",
    "list_recordings",
    "maintain",
    "rate",
    "sums",
    "take_batch",
]
