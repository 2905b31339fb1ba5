"""Quiet check-ins of devices that prove themselves by a certificate, answered from memory in front of everything else.

Whatever is unusual about a request leaves it to `check_in.py`, which knows all the rules, and which alone lets a device
be answered from memory the next time.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from control_plane.fleet.domain import AuthMode
from control_plane.fleet.service import Identities, Known, Quiet
from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.device_http import CERTIFICATE_HEADER, SECRET_HEADER, unescaped
from control_plane.kit.errors import Problem
from control_plane.kit.signing import BesideSigner
from control_plane.kit.tls import PEER, PROXIED, SEAT, Respond, Seat
from control_plane.rollout.device_api.plain import Plain, read_plain
from control_plane.rollout.service import Director, Offers, reply, to_sign

DEVICE_HEADER = b"fleetloop-device"
SIGNATURE_HEADER = b"fleetloop-signature"


class QuickCheckIns:
    """A shortcut (`kit.tls`) for one route."""

    path = "/device/v1/check-in"

    def __init__(self, state: Any, context: Context) -> None:
        self._identities: Identities = state.identities
        self._quiet: Quiet = state.quiet
        self._offers: Offers = state.offers
        self._director: Director = state.director
        self._signer: BesideSigner = state.signer
        secret = context.settings.proxy_secret
        self._secret = secret.get_secret_value().encode() if secret else None
        self._rate_per_s = self._identities.rules.rate_per_s
        self._next_s = json.dumps(context.settings.check_in_s).encode()

    def take(self, scope: Mapping[str, Any], body: bytes, respond: Respond) -> bool:
        known = self._known(scope)
        payload = self._answer(known, body) if known is not None and known.said else None
        if payload is None:
            return False
        key, key_id = self._director.key

        def signed(signature: bytes) -> None:
            respond(reply(payload, key_id, signature, self._next_s))

        self._signer.sign(key, to_sign(payload), signed)
        return True

    def _known(self, scope: Mapping[str, Any]) -> Known | None:
        """Return whose connection or header this is, if its certificate was judged before and is good still."""
        if scope["method"] != "POST":
            return None
        certificate: bytes | None = None
        device = secret = b""
        for name, value in scope["headers"]:
            if not name.startswith(b"fleetloop"):
                continue
            if name == CERTIFICATE_HEADER and certificate is None:
                certificate = value
            elif name == SECRET_HEADER and not secret:
                secret = value
            elif name == DEVICE_HEADER:
                device = value
            elif name != SIGNATURE_HEADER:
                return None  # one of them twice, or something that is spelled like them
        known = self._seated(scope, certificate) if PROXIED not in scope else self._named(scope, certificate, secret)
        return None if known is None or (device and device != known.id.encode()) else known

    def _seated(self, scope: Mapping[str, Any], certificate: bytes | None) -> Known | None:
        """Return who sits at the other end of a TLS connection."""
        seat: Seat | None = scope.get(SEAT)
        if seat is None or certificate is not None:
            return None
        holder: Known | None = seat.holder
        if holder is None or not holder.said:  # nobody yet, or one that was forgotten meanwhile
            seat.holder, seat.expires_at_s = holder, _ = self._judged(scope[PEER])
        return holder if seat.expires_at_s > clock.now().timestamp() else None

    def _named(self, scope: Mapping[str, Any], certificate: bytes | None, secret: bytes) -> Known | None:
        """Return whom our proxy names."""
        if not certificate or (self._secret is None and scope["client"] is not None):
            return None
        if self._secret is not None and not hmac.compare_digest(secret, self._secret):
            return None
        digest = hashlib.sha256(certificate).digest()
        known = self._identities.of_certificate(digest)
        if known is None:
            try:
                known, expires_at_s = self._judged(unescaped(certificate))
            except Problem:
                return None
            if known is not None:
                self._identities.keep_certificate(known, digest)
                known.expires_at_s = int(expires_at_s)
        return known if known is not None and known.expires_at_s > clock.now().timestamp() else None

    def _judged(self, certificate: bytes) -> tuple[Known | None, float]:
        """Judge a certificate (DER); return whose it is, if this process knows the device, and when it is over."""
        rules = self._identities.rules
        if not certificate or rules.authority is None or rules.mode is AuthMode.SIGNATURE:
            return None, 0.0
        try:
            presented = rules.authority.judge(certificate, clock.now())
        except Problem:
            return None, 0.0
        known = self._identities.known(presented.device_id)
        if known is None or known.key_sha256.hex() != presented.spki_sha256:
            return None, 0.0
        return known, presented.expires_at.timestamp()

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
