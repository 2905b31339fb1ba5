"""What a browser keeps: the session's cookie and its forms' token, a sealed note; and how often a sign-in may fail."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

COOKIE = "fleetloop_session"
NOTE = "fleetloop_sign_in"
MAX_NOTE = 4000
_NONCE = 12


def cookie_name(name: str, *, secure: bool) -> str:
    """Return a cookie's name; with its prefix a browser takes it from this host only, over TLS only, for all paths."""
    return f"__Host-{name}" if secure else name


def is_secure(scheme: str, host: str, public_url: str) -> bool:
    """Say whether the browser came by TLS; a proxy that ends TLS may not say so, but it serves our public name."""
    public = urlsplit(public_url)
    return scheme == "https" or (public.scheme == "https" and public.netloc.lower() == host.lower())


def is_ours(origin: str | None, site: str | None, host: str, public_url: str) -> bool:
    """Say whether a form came from a page of ours, by what browsers say of it; the token is looked at as well."""
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    said = urlsplit(origin)
    return said.scheme in ("http", "https") and said.netloc.lower() in (
        host.lower(),
        urlsplit(public_url).netloc.lower(),
    )


class Sealer:
    """Makes what a browser can keep but neither read nor forge; `secret` is the installation's."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"fleetloop web note" + secret).digest())
        self._form = hashlib.sha256(b"fleetloop web form" + secret).digest()

    def seal(self, note: dict[str, str], now: datetime) -> str:
        nonce = secrets.token_bytes(_NONCE)
        plain = json.dumps([note, now.timestamp()]).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, plain, None)).decode()

    def open(self, sealed: str | None, now: datetime, longest: timedelta) -> dict[str, str] | None:
        """Return the note, or None if it is not ours or too old."""
        if not sealed or len(sealed) > MAX_NOTE:
            return None
        try:
            data = base64.urlsafe_b64decode(sealed)
            note, made = json.loads(self._cipher.decrypt(data[:_NONCE], data[_NONCE:], None))
        except (InvalidTag, ValueError, binascii.Error):
            return None
        return dict(note) if now.timestamp() - float(made) < longest.total_seconds() else None

    def form_token(self, cookie: str) -> str:
        """Return what every form of this session carries."""
        return hmac.new(self._form, cookie.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, cookie: str, given: str) -> bool:
        return hmac.compare_digest(self.form_token(cookie).encode(), given.encode())
