"""The worker's hourly upkeep of telemetry."""

import time

from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.telemetry import service

LOOK_S = 3600.0


class Upkeep:
    """Looks once an hour, whatever else wakes the worker; of several workers one does it."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._context = context
        self._next_at_s = 0.0
        self._retention = service.Retention(
            settings.retention_windows_days,
            settings.retention_floor_days,
            settings.retention_cells_days,
            settings.evidence_panel,
        )

    async def tick(self) -> int:
        """Return 1 if the upkeep was done."""
        if time.monotonic() < self._next_at_s:
            return 0
        async with self._context.database.transaction() as session:
            done = await service.maintain(session, clock.now(), self._retention)
        self._next_at_s = time.monotonic() + LOOK_S
        return int(done)
