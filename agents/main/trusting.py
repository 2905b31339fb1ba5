"""The loop that keeps trust fresh: at the start, when the director names a newer revision, and every hour."""

import logging
from collections.abc import Callable
from typing import Final

from agents.link import Backoff, LinkError
from agents.update import RefusedError, Trust, UpdateLoop

PERIOD_S: Final = 3600.0
_log = logging.getLogger("fleetloop.agent")


class TrustKeeper:
    def __init__(self, trust: Trust, update: UpdateLoop, check_in_now: Callable[[], None]) -> None:
        self._trust, self._update, self._check_in_now = trust, update, check_in_now
        self._backoff = Backoff(1.0, 300.0)
        self.last_error: str | None = None
        trust.changed = self._tell
        self._update.revoke(self._gone())

    async def once(self) -> float:
        """Refresh; return the seconds until the next time."""
        try:
            await self._trust.look_up()
        except LinkError as error:
            return self._failed(f"{error.reason}: {error}", error.retry_after_s)
        except RefusedError as error:
            return self._failed(f"{error.reason}: {error}", None)
        self._backoff.succeeded()
        self.last_error = None
        return self._backoff.spread(PERIOD_S)

    def _tell(self) -> None:
        self._update.revoke(self._gone())
        self._check_in_now()

    def _gone(self) -> frozenset[str]:
        """Return what must not run: what was revoked, and what waits to be switched to and no longer stands."""
        gone, waits = self._trust.anchor.revocations.digests, self._update.state.candidate
        if waits is None or self._trust.stands(waits.release_digest):
            return gone
        return gone | {waits.release_digest}

    def _failed(self, error: str, retry_after_s: float | None) -> float:
        if self._backoff.failures == 0:
            _log.warning("trust: %s", error)
        self.last_error = error
        return self._backoff.failed(retry_after_s)
