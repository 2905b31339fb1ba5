"""Who sits at the browser: the sealed cookie, the form token, and how often a login may fail.

The cookie holds the API token, sealed with AES-256-GCM under a key of the installation, so that every process behind
one database opens it and a revoked token ends the session at once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

COOKIE = "fleetloop_session"
MAX_COOKIE = 1000
MAX_AGE_S = 12 * 3600
MAX_FAILURES = 10
MOST_ADDRESSES = 10_000
_NONCE = 12


class Sealer:
    """Makes and opens cookies; `secret` is the installation's."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"fleetloop web cookie" + secret).digest())
        self._form = hashlib.sha256(b"fleetloop web form" + secret).digest()

    def seal(self, token: str, now: datetime) -> str:
        nonce = secrets.token_bytes(_NONCE)
        plain = json.dumps([token, now.timestamp()]).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, plain, None)).decode()

    def open(self, cookie: str | None, now: datetime) -> str | None:
        """Return the token, or None if the cookie is not ours or too old."""
        if not cookie or len(cookie) > MAX_COOKIE:
            return None
        try:
            data = base64.urlsafe_b64decode(cookie)
            token, made = json.loads(self._cipher.decrypt(data[:_NONCE], data[_NONCE:], None))
        except (InvalidTag, ValueError, binascii.Error):
            return None
        return str(token) if now.timestamp() - float(made) < MAX_AGE_S else None

    def form_token(self, cookie: str) -> str:
        """Return what every form of this session carries."""
        return hmac.new(self._form, cookie.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, cookie: str, given: str) -> bool:
        return hmac.compare_digest(self.form_token(cookie), given)


class Throttle:
    """Counts failed logins by address; beyond a handful a minute they must wait."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[datetime]] = OrderedDict()

    def may_try(self, address: str, now: datetime) -> bool:
        recent = [at for at in self._failures.get(address, []) if now - at < timedelta(minutes=1)]
        return len(recent) < MAX_FAILURES

    def failed(self, address: str, now: datetime) -> None:
        recent = [at for at in self._failures.pop(address, []) if now - at < timedelta(minutes=1)]
        self._failures[address] = [*recent, now][-MAX_FAILURES:]
        while len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)
