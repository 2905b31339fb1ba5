"""What the device believes: director manifests and release manifests. Everything else is refused with a code.

Freshness comes from the nonce, not from the clock: a device's clock may be years off. A manifest that echoes the nonce
was signed after we asked; it then lives for `expires_at - issued_at`, counted on our monotonic clock from the asking.

`TrustPolicy` is the place for what a release itself must prove: `admission.SignedByAll` asks for the TUF listing,
provenance, gate and approvals.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from agents.protocol.v1 import (
    DIRECTOR_PAYLOAD,
    DirectorManifest,
    Envelope,
    EnvelopeError,
    ReleaseManifest,
    digest_of,
    read_envelope,
    sha256_hex,
    strict_json,
)
from agents.update.machine import Target

MANIFEST_BYTES: Final = 64 << 10
RELEASE_BYTES: Final = 1 << 20
LONGEST_LIFE_S: Final = 7 * 24 * 3600.0


class RefusedError(Exception):
    """Something that must not be believed or installed; `reason` is a code, the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Order:
    """What the director wants, and for how many seconds from the asking it may be acted on."""

    target: Target | None
    life_s: float
    revision: int = 0


Keys = Callable[[], Mapping[str, Ed25519PublicKey]]
HeardTime = Callable[[datetime, str], None]


class DirectorCheck:
    """Manifests for one device, by the keys that the trust policy names now; none is taken twice.

    `heard_time` is told each manifest's time of signing and its key.
    """

    def __init__(self, device_id: str, keys: Keys, heard_time: HeardTime | None = None) -> None:
        self._device_id, self._keys, self._heard_time = device_id, keys, heard_time
        self._last_seq = -1

    def accept(self, envelope: Envelope, nonce: str) -> Order:
        """Return the order of a manifest that answers this very check-in.

        Raises:
            RefusedError: another key, device, nonce, a repeated seq, no life left, or not valid at all.
        """
        manifest, key = self._opened(envelope)
        if manifest.device_id != self._device_id:
            raise RefusedError("other_device", f"the manifest is for device {manifest.device_id[:64]!r}")
        if manifest.nonce != nonce:
            raise RefusedError("wrong_nonce", "the manifest does not answer this check-in: a replay")
        # The nonce alone would do; a growing seq also holds when a random source repeats itself.
        if manifest.seq <= self._last_seq:
            raise RefusedError("old_seq", f"seq {manifest.seq} does not follow {self._last_seq}")
        life_s = _life_s(manifest)
        self._last_seq = manifest.seq
        if self._heard_time is not None:
            self._heard_time(manifest.issued_at, key)
        return Order(_target(manifest), life_s, manifest.revision)

    def _opened(self, envelope: Envelope) -> tuple[DirectorManifest, str]:
        try:
            payload, signers = read_envelope(envelope, DIRECTOR_PAYLOAD, self._keys())
        except EnvelopeError as error:
            raise RefusedError("bad_signature", str(error)) from error
        if not signers:
            raise RefusedError("bad_signature", "the manifest is not signed by a director that the trust policy names")
        try:
            return DirectorManifest.model_validate(strict_json(payload, MANIFEST_BYTES)), min(signers)
        except (ValueError, ValidationError) as error:
            raise RefusedError("bad_manifest", str(error)[:300]) from error


def _target(manifest: DirectorManifest) -> Target | None:
    order = manifest.order
    if order is None:
        return None
    return Target(
        order.release_digest,
        order.size_bytes,
        order.counter,
        order.rollout_id,
        stage_fraction=order.stage_fraction,
        safe_state=order.safe_state,
        site_free=order.site_free,
        shadow_s=order.shadow_s,
        revision=manifest.revision,
    )


def _life_s(manifest: DirectorManifest) -> float:
    try:
        life_s = (manifest.expires_at - manifest.issued_at).total_seconds()
    except TypeError as error:  # one with a time zone, one without
        raise RefusedError("bad_manifest", "issued_at and expires_at do not compare") from error
    if life_s <= 0:
        raise RefusedError("expired", "the manifest expired before it was issued")
    return min(life_s, LONGEST_LIFE_S)


def read_release(data: bytes, target: Target, device_class: str) -> ReleaseManifest:
    """Return the release manifest if its bytes are exactly what the director ordered, for this class of device.

    Raises:
        RefusedError: the bytes, counter, content or class do not agree.
    """
    if len(data) != target.size_bytes or sha256_hex(data) != target.release_digest:
        raise RefusedError("release_mismatch", "the release manifest is not the one the director ordered")
    try:
        raw = strict_json(data, RELEASE_BYTES)
        release = ReleaseManifest.model_validate(raw)
    except (ValueError, ValidationError) as error:
        raise RefusedError("bad_release", str(error)[:300]) from error
    if release.counter != target.counter:
        raise RefusedError("counter_mismatch", f"counter {release.counter} in the release, {target.counter} ordered")
    # Over the raw content: fields that this reader does not know are part of what was signed.
    if digest_of(raw["content"]) != release.content_digest:
        raise RefusedError("content_mismatch", "content_digest is not the digest of the content manifest")
    if device_class not in release.device_classes:
        raise RefusedError("wrong_device_class", f"{device_class} is not among {', '.join(release.device_classes)}")
    _check_paths(release)
    return release


def _check_paths(release: ReleaseManifest) -> None:
    # Case-insensitive: two names that one file system holds apart may be one file on another.
    names = [file.path.lower() for file in release.content.files]
    if len(set(names)) != len(names):
        raise RefusedError("bad_release", "two files have one name")


class TrustPolicy(Protocol):
    """What a release must prove before any of its files is fetched."""

    async def admit(self, target: Target, release: ReleaseManifest, release_bytes: bytes) -> None:
        """Raise RefusedError (for good) or LinkError (try again) unless the release may be installed."""

    def evidence(self, release_digest: str) -> bytes | None:
        """Return what let a release in, to lie beside it."""

    def forget(self, wanted: Collection[str]) -> None:
        """Drop what was kept for releases other than these."""
