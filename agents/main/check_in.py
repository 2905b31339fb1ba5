"""Check-ins: what the device says of itself, and the order it takes home."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

from agents.link import Backoff, DeviceClient, LinkError
from agents.link.identity import AGENT_VERSION
from agents.protocol.v1 import LIMITS, ActiveRelease, CheckIn, CheckInReply
from agents.update import Anchor, DirectorCheck, RefusedError, Slot, UpdateLoop

_LEAST_S: Final = 0.2
_log = logging.getLogger("fleetloop.agent")


class CheckIns:
    """`hurry` asks for the next check-in at once; `trust_outdated` is set when there is newer trust metadata.

    One device checks in one at a time.
    """

    def __init__(
        self,
        client: DeviceClient,
        director: DirectorCheck,
        update: UpdateLoop,
        numbers: Callable[[], dict[str, float]],
        facts: Callable[[], Mapping[str, Any]],
        anchor: Anchor,
        *,
        boot_id: str,
    ) -> None:
        self._client, self._director, self._update = client, director, update
        self._numbers, self._facts, self._boot_id = numbers, facts, boot_id
        self._anchor = anchor
        self._backoff = Backoff(1.0, 60.0)
        self._seq = 0
        self._refusals = 0
        self.hurry = asyncio.Event()
        self.trust_outdated = asyncio.Event()
        self.last_error: str | None = None
        self.last_at: datetime | None = None

    async def once(self) -> float:
        """Check in; return the seconds until the next time."""
        nonce, asked_at_s = secrets.token_urlsafe(24), time.monotonic()
        try:
            reply = await self._client.post("check-in", self._message(nonce), CheckInReply)
            order = self._director.accept(reply.manifest, nonce)
        except LinkError as error:
            return self._failed(str(error), error.retry_after_s)
        except RefusedError as error:
            self._refusals += 1
            if error.reason == "bad_signature":
                self.trust_outdated.set()  # the director may have a new key
            return self._failed(f"manifest refused, {error.reason}: {error}", None)
        self._update.ordered(order, asked_at_s)
        if order.revision > self._anchor.revision:
            self.trust_outdated.set()
        self._backoff.succeeded()
        self.last_error, self.last_at = None, datetime.now(timezone.utc)
        return self._backoff.spread(reply.next_check_in_s, _LEAST_S)

    def _failed(self, error: str, retry_after_s: float | None) -> float:
        if self._backoff.failures == 0:
            _log.warning("check-in: %s", error)
        self.last_error = error
        return self._backoff.failed(retry_after_s)

    def _message(self, nonce: str) -> bytes:
        self._seq += 1
        state = self._update.state
        facts: dict[str, Any] = dict(self._facts())
        if self._refusals:
            facts.update(manifests_refused=self._refusals, last_error=(self.last_error or "")[:200])
        message = CheckIn(
            boot_id=self._boot_id,
            seq=self._seq,
            nonce=nonce,
            sent_at=datetime.now(timezone.utc),
            agent_version=AGENT_VERSION,
            active=active_release(self._update.running()),
            deployment=self._update.report(),
            counter_floor=state.floor,
            trust_revision=self._anchor.revision,
            spool=self._numbers(),
            platform=facts,
        )
        body = message.model_dump_json().encode()
        if len(body) > LIMITS["check_in_bytes"]:
            body = message.model_copy(update={"platform": {}}).model_dump_json().encode()
        return body


def active_release(slot: Slot | None) -> ActiveRelease | None:
    if slot is None:
        return None
    return ActiveRelease(release_digest=slot.release_digest, content_digest=slot.content_digest, counter=slot.counter)
