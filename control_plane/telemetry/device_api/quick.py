"""Plain batches of devices that prove themselves by a certificate, taken in front of everything else.

Which device speaks is told from memory; whether it is heard is judged by its row, in the transaction that takes the
batch. Whatever is unusual leaves a request to `routes.py`, which says what is wrong; so does a batch that was not
taken after all, for taking it again adds nothing.
"""

from collections.abc import Mapping
from typing import Any

from agents.protocol import v1 as wire
from control_plane.fleet.domain import DeviceState, Identity
from control_plane.fleet.service import Callers, Identities
from control_plane.kit.errors import Problem
from control_plane.kit.tls import Respond
from control_plane.telemetry.domain import read_plain
from control_plane.telemetry.service import Intake, batch_of


class QuickTelemetry:
    """A shortcut (`kit.tls`) for one route."""

    path = "/device/v1/telemetry"

    def __init__(self, state: Any) -> None:
        self._callers: Callers = state.callers
        self._intake: Intake = state.intake
        identities: Identities = state.identities
        self._rate_per_s = identities.rules.rate_per_s

    def take(self, scope: Mapping[str, Any], body: bytes, respond: Respond) -> bool:
        plain = read_plain(body) if len(body) <= wire.LIMITS["body_bytes"] else None
        who = self._who(scope) if plain is not None else None
        if plain is None or who is None:
            return False

        def tell(answer: wire.TelemetryReply | BaseException) -> None:
            respond(None if isinstance(answer, BaseException) else answer.model_dump_json(by_alias=True).encode())

        try:
            self._intake.put(batch_of(who, *plain), tell)
        except Problem:
            return False
        return True

    def _who(self, scope: Mapping[str, Any]) -> Identity | None:
        """Return who speaks, and use one request of its allowance up."""
        known = self._callers.known(scope)
        if known is None or known.denied or known.state is not DeviceState.ACTIVE or known.wait_s(self._rate_per_s):
            return None
        return known.identity
