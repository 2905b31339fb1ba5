"""Gather what is known of a thing, over the other slices, and write it in one of the formats."""

from control_plane.exports.service.telling import Event, run_events
from control_plane.exports.service.writing import Exported, export

__all__ = ["Event", "Exported", "export", "run_events"]
