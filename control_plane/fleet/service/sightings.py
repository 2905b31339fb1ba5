"""Check-ins on their way to the database."""

import asyncio
import contextlib
from typing import Any

from control_plane.fleet import store
from control_plane.kit.db import Database


class Sightings:
    """Check-ins of this process on their way to the database: those that come while one write runs go with the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[bool]]] = {}
        self._writer: asyncio.Task[None] | None = None

    async def write(self, database: Database, device_id: str, values: dict[str, Any]) -> bool:
        """Return once the check-in is committed; False if it was not written and must be judged alone."""
        if device_id in self._waiting:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[device_id] = values, future
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(database))
        return await future

    async def _write_all(self, database: Database) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            written: set[str] = set()
            try:
                with contextlib.suppress(Exception):  # whatever was wrong with one, each is judged alone and hears it
                    written = await store.go_on(database, [values for values, _ in batch.values()])
            finally:
                for device_id, (_, future) in batch.items():
                    if not future.done():
                        future.set_result(device_id in written)
