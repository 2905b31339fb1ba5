"""The worker's part: send what is due, several at once, outside any transaction."""

import asyncio
import time

from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.db import Row
from control_plane.kit.signing import load_secret
from control_plane.webhooks import service
from control_plane.webhooks.service import Sender
from control_plane.webhooks.service.signing import secret_of

TIDY_S = 3600.0


class Deliverer:
    """Several may run side by side: a delivery is claimed for each attempt."""

    def __init__(self, context: Context, sender: Sender | None = None) -> None:
        self._context = context
        self._sender = sender or Sender(service.rules_of(context.settings))
        self._tidy_at_s = 0.0

    async def tick(self) -> int:
        """Try what is due; return how many attempts were made."""
        async with self._context.database.transaction() as session:
            claimed = await service.claim(session)
            if time.monotonic() >= self._tidy_at_s:
                await service.tidy(session, clock.now())
                self._tidy_at_s = time.monotonic() + TIDY_S
        await asyncio.gather(*(self._attempt(each) for each in claimed))
        return len(claimed)

    async def _attempt(self, claimed: Row) -> None:
        secret = secret_of(
            load_secret(self._context.settings.keys, "webhook.secret"), claimed["webhook_id"], claimed["epoch"]
        )
        headers = {"Fleetloop-Delivery": claimed["id"], "Fleetloop-Topic": claimed["topic"]}
        answer = await self._sender.send(claimed["url"], secret, headers, claimed["body"].encode())
        async with self._context.database.transaction() as session:
            await service.settle(session, claimed, answer)
