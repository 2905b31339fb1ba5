"""A webhook's secret, and the signature by which its receiver knows us.

The secret is derived from the installation's, never stored: a copy of the database lets nobody forge a message.
"""

import base64
import hashlib
import hmac

HEADER = "Fleetloop-Signature"
TOLERANCE_S = 300


def secret_of(installation: bytes, webhook_id: str, epoch: int) -> str:
    """Return the secret of a webhook; another `epoch` is another secret."""
    raw = hmac.new(installation, f"fleetloop webhook {webhook_id} {epoch}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def sign(secret: str, at_s: int, body: bytes) -> str:
    """Return the header's value: `t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY`."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={mac}"


def verify(secret: str, header: str, body: bytes, now_s: float) -> bool:
    """Say whether a message is ours and fresh; receivers may copy this."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdigit() or abs(now_s - int(parts["t"])) > TOLERANCE_S:
        return False
    return hmac.compare_digest(sign(secret, int(parts["t"]), body).encode(), header.encode())
