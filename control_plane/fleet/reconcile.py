"""The worker's look around for devices that fell silent, a slice of the fleet at a time."""

import time

from control_plane.fleet import service
from control_plane.kit import clock
from control_plane.kit.context import Context

SLICE_S = 1.0
ROUND_S = 15.0
FOLD_S = 20.0


class Sweeper:
    """Goes round the fleet for ever: a small one every 15 s, a million devices in about two minutes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._after = ""
        self._next_at_s = self._fold_at_s = 0.0

    async def tick(self) -> int:
        """Return 1 if a slice was looked at."""
        now_s = time.monotonic()
        if now_s < self._next_at_s:
            return 0
        async with self._context.database.transaction() as session:
            self._after = await service.sweep(session, self._after, clock.now())
        self._next_at_s = now_s + (SLICE_S if self._after else ROUND_S)
        if now_s >= self._fold_at_s:
            async with self._context.database.transaction() as session:
                await service.fold(session)
            self._fold_at_s = now_s + FOLD_S
        return 1
