"""Who a request comes from: a client certificate of our authority, or a signature by the enrolled key."""

import base64
import binascii
import sys
import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agents.protocol import v1 as wire
from control_plane.fleet import store
from control_plane.fleet.domain import AuthMode, DeviceState, Identity, admitted_at_s
from control_plane.fleet.service.sightings import Sightings
from control_plane.kit import clock
from control_plane.kit.certificates import Authority, Presented
from control_plane.kit.db import Row, Session
from control_plane.kit.device_http import Proof
from control_plane.kit.errors import Invalid, Refused, TooMany, Unauthenticated

FAILURES_MOST, FAILURES_WINDOW_S, ADDRESSES_MOST = 20, 60.0, 10_000
MOST_KNOWN = 2_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """`authority` judges certificates; without one there are none."""

    mode: AuthMode = AuthMode.EITHER
    authority: Authority | None = None
    rate_per_s: float = 20.0


class Known(msgspec.Struct, gc=False, eq=False):
    """A device as this process knows it: small, and nothing a garbage collector has to look into.

    `key` is read only where a signature has to be checked. What stands below it is for check-ins that are answered
    from memory (`fleet.service.quiet`): `said` and `facts` are hashes of what the device last said, 0 for unknown;
    `seq` is its last number, `floor` its counter floor; `turn` counts check-ins that are judged by the row; `offer` is
    whatever the rollout last worked out for it, at `offered_at`; `certificate` is a digest of how it last proved
    itself, good until `expires_at_s`. `ask_at_s` is to questions to the row what `free_at_s` is to requests.
    """

    id: str
    device_class: str
    site: str
    state: DeviceState
    key_sha256: bytes
    denied: bool
    free_at_s: float = 0.0
    ask_at_s: float = 0.0
    key: EllipticCurvePublicKey | None = None
    said: int = 0
    facts: int = 0
    seq: int = -1
    floor: int = 0
    turn: int = 0
    offer: Any = None
    offered_at: int = -1
    certificate: bytes = b""
    expires_at_s: int = 0

    @property
    def identity(self) -> Identity:
        return Identity(self.id, self.device_class, self.site, self.state, self.key_sha256.hex())

    def wait_s(self, rate_per_s: float) -> float:
        """Use one request of the device's allowance up; return the seconds until there is one again, 0 if there was."""
        now_s = time.monotonic()
        self.free_at_s, wait_s = admitted_at_s(self.free_at_s, rate_per_s, now_s)
        return wait_s


class Identities:
    """Devices this process knows, so that a request costs no parsing. NOTIFY takes changed ones out.

    Whoever writes for a device looks at its row (`standing`, `go_on`), so a quarantine or a denied key counts from the
    very next such request, also where a notification was lost. Only a check-in that is answered from memory relies on
    the notification at first: see `fleet.service.quiet`.
    """

    def __init__(self, rules: Rules | None = None, most: int = MOST_KNOWN) -> None:
        self.rules = rules or Rules()
        self._known: dict[str, Known] = {}
        self._by_certificate: dict[bytes, Known] = {}
        self._most = most
        self.changes = 0
        self.sightings = Sightings()
        self.failures = Failures()

    def forget(self, device_id: str | None) -> None:
        self.changes += 1
        if device_id is None:
            for each in self._known.values():
                each.said = 0  # a connection may still hold it
            self._known.clear()
            self._by_certificate.clear()
        elif (known := self._known.pop(device_id, None)) is not None:
            self._drop(known)

    def _drop(self, known: Known) -> None:
        known.said = 0
        if known.certificate:
            self._by_certificate.pop(known.certificate, None)

    def known(self, device_id: str) -> Known | None:
        return self._known.get(device_id)

    def of_certificate(self, digest: bytes) -> Known | None:
        """Return the device whose certificate was judged good when it last came, by a digest of how it came."""
        return self._by_certificate.get(digest)

    def keep_certificate(self, known: Known, digest: bytes) -> None:
        if known.certificate != digest:
            if known.certificate in self._by_certificate:
                del self._by_certificate[known.certificate]
            self._by_certificate[digest] = known
            known.certificate = digest

    async def of(self, session: Session, device_id: str, *, with_key: bool = True) -> Known:
        found = self.known(device_id)
        if found is None or (with_key and found.key is None):
            changes = self.changes
            device = await store.find_device(session, device_id)
            if device is None:
                raise Unauthenticated("this device is not enrolled")
            key = public_key(device.public_key_pem) if with_key else None
            if found is not None and changes == self.changes:
                found.key = key
                return found
            found = Known(
                device.id,
                sys.intern(device.device_class),
                sys.intern(device.site),
                DeviceState(device.state),
                bytes.fromhex(device.key_sha256),
                await store.is_denied(session, device.key_sha256),
                key=key,
            )
            if changes == self.changes:  # what was read may be older than what a notification just took out
                self.keep(found)
        return found

    async def is_outdated(self, session: Session, found: Known) -> bool:
        """Say whether a device's row says otherwise than this process remembers; asked no oftener than it may come.

        A refusal asks this first: whoever was let in again may be here before the notification that says so.
        """
        found.ask_at_s, wait_s = admitted_at_s(found.ask_at_s, self.rules.rate_per_s, time.monotonic())
        row = None if wait_s else await store.standing(session, found.id)
        known = (found.state.value, found.key_sha256.hex(), found.denied)
        return row is not None and known != (row["state"], row["key_sha256"], row["denied"])

    async def key_of(self, session: Session, device_id: str) -> EllipticCurvePublicKey:
        key = (await self.of(session, device_id)).key
        if key is None:
            raise AssertionError("`of` reads the key if it is not told otherwise")
        return key

    def keep(self, found: Known) -> None:
        if len(self._known) >= self._most:
            for oldest in list(islice(self._known.values(), max(self._most // 10, 1))):
                del self._known[oldest.id]
                self._drop(oldest)
        self._known[found.id] = found


class Failures:
    """Failed enrolments by address: whoever guesses tokens is not heard for a while, and nobody else suffers."""

    def __init__(self) -> None:
        self._by_address: dict[str, tuple[int, float]] = {}

    def check(self, address: str) -> None:
        count, since_s = self._by_address.get(address, (0, 0.0))
        left_s = since_s + FAILURES_WINDOW_S - time.monotonic()
        if count >= FAILURES_MOST and left_s > 0:
            raise TooMany("too many failed enrolments from this address", left_s)

    def count(self, address: str) -> None:
        now_s = time.monotonic()
        count, since_s = self._by_address.get(address, (0, now_s))
        if now_s - since_s > FAILURES_WINDOW_S:
            count, since_s = 0, now_s
        if len(self._by_address) >= ADDRESSES_MOST:
            self._by_address.clear()
        self._by_address[address] = (count + 1, since_s)


async def authenticate(session: Session, identities: Identities, proof: Proof, *, renewing: bool = False) -> Identity:
    """Return whose request it is; the device's row is asked, so what was decided about it counts at once.

    `renewing` takes the signature of a device whose certificate is over, whatever the mode.

    Raises:
        Unauthenticated: nothing proves who speaks. Refused: the device or its key is not heard. TooMany: too often.
    """
    claim = _claim(identities.rules, proof, renewing=renewing)
    cached = identities.known(claim.device_id)
    found = await identities.of(session, claim.device_id, with_key=claim.certificate is None)
    try:
        who = _proven(identities.rules, found, claim, proof)
    except (Refused, Unauthenticated):
        if cached is None or not await identities.is_outdated(session, found):
            raise
        identities.forget(found.id)
        return await authenticate(session, identities, proof, renewing=renewing)
    if cached is not None:
        must_stand(who, await store.standing(session, who.id))
    return who


def recognise(identities: Identities, proof: Proof) -> Identity | None:
    """Do as `authenticate` does for a device that this process knows, without its row; return None for any other.

    Also for one to refuse: what this process remembers may be older than its row.
    """
    claim = _claim(identities.rules, proof, renewing=False)
    found = identities.known(claim.device_id)
    if found is None or (claim.certificate is None and found.key is None):
        return None
    try:
        return _proven(identities.rules, found, claim, proof)
    except (Refused, Unauthenticated):
        return None


def must_stand(who: Identity, row: Row | None) -> None:
    """Refuse a device whose row says otherwise than what its request was judged by."""
    if row is None or row["key_sha256"] != who.key_sha256:
        raise Unauthenticated("this device has another key now")
    if row["denied"]:
        raise _denied(who.id)
    must_be_active(who.id, DeviceState(row["state"]))


def must_be_active(device_id: str, state: DeviceState) -> None:
    if state is not DeviceState.ACTIVE:
        raise Refused(f"device {device_id} is {state}", code=f"device_{state}")


def public_key(pem: str) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("public_key_pem is not a PEM public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Invalid("public_key_pem must be a P-256 key")
    return key


def check_signature(key: EllipticCurvePublicKey, signature: str, data: bytes, what: str) -> None:
    try:
        key.verify(base64.b64decode(signature, validate=True), data, ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise Unauthenticated(f"the {what} is not signed by the device's key") from error


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who a request says it is from; `certificate` proves it, else a signature has to."""

    device_id: str
    certificate: Presented | None = None


def _claim(rules: Rules, proof: Proof, *, renewing: bool) -> _Claim:
    if proof.certificate and rules.mode is not AuthMode.SIGNATURE and rules.authority is not None:
        presented = rules.authority.judge(proof.certificate, clock.now())
        if proof.device_id not in (None, presented.device_id):
            raise Unauthenticated("the certificate is of another device than the request says")
        return _Claim(presented.device_id, presented)
    if rules.mode is AuthMode.MTLS and not renewing:
        raise Unauthenticated("come by TLS with the device's certificate", code="certificate_missing")
    if not proof.device_id or not proof.signature or len(proof.device_id) > 64 or len(proof.signature) > 200:
        raise Unauthenticated("send Fleetloop-Device and Fleetloop-Signature")
    return _Claim(proof.device_id)


def _proven(rules: Rules, found: Known, claim: _Claim, proof: Proof) -> Identity:
    identity = found.identity
    if claim.certificate is None:
        if found.key is None:
            raise AssertionError("a signature is checked only where the key was read")
        signed = wire.signing_input(proof.method, proof.target, proof.body)
        check_signature(found.key, proof.signature or "", signed, "request")
    elif claim.certificate.spki_sha256 != identity.key_sha256:
        raise Unauthenticated("this certificate is for a key that the device no longer has", code="old_certificate")
    if found.denied:
        raise _denied(identity.id)
    must_be_active(identity.id, identity.state)
    wait_s = found.wait_s(rules.rate_per_s)
    if wait_s:
        raise TooMany(f"device {identity.id} asks more often than it may", wait_s)
    return identity


def _denied(device_id: str) -> Refused:
    return Refused(f"the key of device {device_id} is denied", code="key_denied")
