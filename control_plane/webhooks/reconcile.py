"""The worker's part: send what is due, several at once, outside any transaction."""

import asyncio
import time
from pathlib import Path

from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.db import Row
from control_plane.kit.signing import load_secret
from control_plane.webhooks import service
from control_plane.webhooks.domain import Answer, Rules
from control_plane.webhooks.service import Sender
from control_plane.webhooks.service.signing import secret_of

TIDY_S = 3600.0
MAX_TOKEN = 4096


class Deliverer:
    """Several may run side by side: a delivery is claimed for each attempt."""

    def __init__(self, context: Context, sender: Sender | None = None) -> None:
        self._context = context
        self._sender = sender or Sender(service.rules_of(context.settings))
        self._stated = Sender(Rules(stated=True))
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
        if claimed["form"] == "fleetloop":
            answer = await self._sender.send(claimed["url"], secret, headers, claimed["body"].encode())
        else:
            answer = await self._send_stated(claimed, secret, headers)
        async with self._context.database.transaction() as session:
            await service.settle(session, claimed, answer)

    async def _send_stated(self, claimed: Row, secret: str, headers: dict[str, str]) -> Answer:
        """Send to where a setting says, with the token that its file holds now."""
        path = self._context.settings.openlineage_token_file
        try:
            token = (await asyncio.to_thread(_read, path)) if path is not None else ""
        except (OSError, ValueError) as error:
            return Answer(None, f"FLEETLOOP_OPENLINEAGE_TOKEN_FILE: {type(error).__name__}", 0)
        said = headers | ({"Authorization": f"Bearer {token}"} if token else {})
        return await self._stated.send(claimed["url"], secret, said, claimed["body"].encode())


def _read(path: Path) -> str:
    """Return the one line of a token's file.

    Raises:
        OSError: it cannot be read. ValueError: it is no token.
    """
    with path.open() as file:
        token = file.read(MAX_TOKEN + 1).strip()
    if len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError("this file holds no token")
    return token
