"""Quiet check-ins of devices that prove themselves by a certificate, answered from memory in front of everything else.

Whatever is unusual about a request leaves it to `check_in.py`, which knows all the rules, and which alone lets a device
be answered from memory the next time.
"""

import json
from collections.abc import Mapping
from typing import Any

from control_plane.fleet.service import Callers, Identities, Known, Quiet
from control_plane.kit.context import Context
from control_plane.kit.signing import BesideSigner
from control_plane.kit.tls import Respond
from control_plane.rollout.device_api.plain import Plain, read_plain
from control_plane.rollout.service import Director, Offers, reply, to_sign


class QuickCheckIns:
    """A shortcut (`kit.tls`) for one route."""

    path = "/device/v1/check-in"

    def __init__(self, state: Any, context: Context) -> None:
        self._callers: Callers = state.callers
        self._quiet: Quiet = state.quiet
        self._offers: Offers = state.offers
        self._director: Director = state.director
        self._signer: BesideSigner = state.signer
        identities: Identities = state.identities
        self._rate_per_s = identities.rules.rate_per_s
        self._next_s = json.dumps(context.settings.check_in_s).encode()

    def take(self, scope: Mapping[str, Any], body: bytes, respond: Respond) -> bool:
        known = self._callers.known(scope)
        payload = self._answer(known, body) if known is not None and known.said else None
        if payload is None:
            return False
        key, key_id = self._director.key

        def signed(signature: bytes) -> None:
            respond(reply(payload, key_id, signature, self._next_s))

        self._signer.sign(key, to_sign(payload), signed)
        return True

    def _answer(self, known: Known, body: bytes) -> bytes | None:
        """Return the manifest of a check-in that is quiet, and note its sign of life; nothing here waits."""
        message = read_plain(body)
        if message is None or message.seq <= known.seq or message.said != known.said or not self._quiet.open:
            return None
        offer = self._offers.holds(known, body)
        if offer is None or not self._is_plain(known, message) or known.wait_s(self._rate_per_s):
            return None
        seen = hash(message.facts)
        facts = message.facts if seen != known.facts and len(message.facts) > 2 else None
        known.facts = seen
        self._quiet.hear(known, message.boot_id, message.seq, message.nonce, message.gauges, facts)
        return self._offers.manifest(known.id, message.nonce, message.seq, offer)

    def _is_plain(self, known: Known, message: Plain) -> bool:
        return message.are_gauges() and (hash(message.facts) == known.facts or message.are_facts())
