"""Keep the TUF repository alive: take in what was signed offline, sign again before expiry, raise alarms."""

import time
from collections.abc import Awaitable, Callable

from control_plane.kit.context import Context
from control_plane.kit.db import Session
from control_plane.kit.errors import Problem
from control_plane.registry import service

LOOK_S = 10.0


class TrustKeeper:
    """Looks every ten seconds, whatever else wakes the worker."""

    def __init__(self, context: Context, *, look_s: float = LOOK_S) -> None:
        self._context = context
        self._look_s = look_s
        self._next_at_s = 0.0

    async def tick(self) -> int:
        """Do what is due; return how many of the steps published something."""
        if time.monotonic() < self._next_at_s or not self._context.keyring.ready:
            return 0
        self._next_at_s = time.monotonic() + self._look_s
        failures: dict[str, str] = {}
        done = await self._try("signed folder", self._adopt, failures)
        done += await self._try("signing", self._renew, failures)
        async with self._context.database.transaction() as session:
            await service.look_for_alarms(session, self._context.objects, failures)
        return done

    async def _try(self, name: str, step: Callable[[Session], Awaitable[bool]], failures: dict[str, str]) -> int:
        try:
            async with self._context.database.transaction() as session:
                return int(await step(session))
        except Problem as error:
            failures[name] = f"{name}: {error.detail}"
            return 0

    async def _adopt(self, session: Session) -> bool:
        return await service.adopt_signed(session, self._context.objects, self._context.keyring) is not None

    async def _renew(self, session: Session) -> bool:
        await service.confirm(session, self._context.keyring)
        if not await service.anything_due(session):
            return False
        return await service.renew(session, self._context.keyring) is not None
