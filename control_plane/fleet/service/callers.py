"""Who calls, told from memory by a certificate that was judged before: for what answers in front of the application.

None stands for everything unusual; the application, which knows all the rules, then says what is wrong with it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from control_plane.fleet.domain import AuthMode
from control_plane.fleet.service.identities import Identities, Known
from control_plane.kit import clock
from control_plane.kit.device_http import CERTIFICATE_HEADER, SECRET_HEADER, unescaped
from control_plane.kit.errors import Problem
from control_plane.kit.tls import PEER, PROXIED, SEAT, Seat

DEVICE_HEADER = b"fleetloop-device"
SIGNATURE_HEADER = b"fleetloop-signature"


class Callers:
    """`proxy_secret`: what a proxy on a port must know; one on a unix socket is ours by the socket's permissions."""

    def __init__(self, identities: Identities, proxy_secret: str | None) -> None:
        self._identities = identities
        self._secret = proxy_secret.encode() if proxy_secret else None

    def known(self, scope: Mapping[str, Any]) -> Known | None:
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
