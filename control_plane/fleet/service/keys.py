"""Certificates for devices, fresh keys, and keys that nobody is heard with any more."""

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.fleet.domain import RENEWABLE, Identity
from control_plane.fleet.models import Certificate, Device
from control_plane.fleet.schemas import DeniedKeyItem, KeyDeny
from control_plane.kit import clock
from control_plane.kit.certificates import Authority, read_csr, spki_sha256
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Forbidden, Invalid, Refused, Unauthenticated


async def certify(session: Session, authority: Authority, device_id: str, csr_pem: str, because: str) -> str:
    """Return a certificate (PEM) for a device's present key and keep a record of it."""
    device = await store.find_device(session, device_id, lock=True)
    if device is None:
        raise Unauthenticated("this device is not enrolled")
    return await _certify(session, authority, device, csr_pem, because)


async def renew(session: Session, authority: Authority, who: Identity, csr_pem: str) -> str:
    """Return a new certificate (PEM), for the present key or for a fresh one, which takes its place.

    Raises:
        Refused: the last certificate has been over for too long. Conflict, Forbidden: the fresh key cannot be taken.
    """
    key = read_csr(csr_pem)
    await store.lock_enrolment(session)
    device = await store.find_device(session, who.id, lock=True)
    if device is None:
        raise Unauthenticated("this device is not enrolled")
    last = device.certificate_expires_at
    if last is not None and clock.now() - last > RENEWABLE:
        raise Refused("the last certificate is over for too long; enrol again", code="certificate_too_old")
    digest = spki_sha256(key)
    if digest != device.key_sha256:
        await _take_key(session, device, digest)
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        device.public_key_pem, device.key_sha256 = pem, digest
        await store.tell(session, device.id)
        await audit.record(session, device.id, "device.fresh_key", device.id, "renewed with a fresh key")
    return await _certify(session, authority, device, csr_pem, "renew")


async def _take_key(session: Session, device: Device, key_sha256: str) -> None:
    if await store.is_denied(session, key_sha256):
        raise Forbidden("this key is denied", code="key_denied")
    if any(other.id != device.id for other in await store.find_by_key_or_serial(session, key_sha256, device.serial)):
        raise Conflict("this key is of another device", code="identity_conflict")


async def _certify(session: Session, authority: Authority, device: Device, csr_pem: str, because: str) -> str:
    key = read_csr(csr_pem)
    if spki_sha256(key) != device.key_sha256:
        raise Invalid("the signing request is for another key than the device's", code="bad_csr")
    made = authority.issue_device(key, device.id, clock.now())
    session.add(
        Certificate(
            serial=f"{made.serial_number:x}",
            device_id=device.id,
            key_sha256=device.key_sha256,
            because=because,
            expires_at=made.not_valid_after_utc,
        )
    )
    device.certificate_expires_at = made.not_valid_after_utc
    return made.public_bytes(Encoding.PEM).decode()


async def deny_key(session: Session, actor: str, key_sha256: str, body: KeyDeny) -> DeniedKeyItem:
    """Hear nobody with this key any more, from the next request on."""
    if len(key_sha256) != 64 or not all(c in "0123456789abcdef" for c in key_sha256):
        raise Invalid("a key is named by the sha256 of its SubjectPublicKeyInfo, in lower-case hex")
    device = await store.find_by_key(session, key_sha256)
    device_id = device.id if device else None
    await store.deny_key(session, key_sha256, device_id, body.reason, body.compromised_since, actor)
    if device_id is not None:
        await store.tell(session, device_id)
    await audit.record(session, actor, "device.deny_key", device_id or key_sha256, body.reason, key_sha256=key_sha256)
    return next(item for item in await list_denied(session) if item.key_sha256 == key_sha256)


async def list_denied(session: Session) -> list[DeniedKeyItem]:
    return [DeniedKeyItem.model_validate(found, from_attributes=True) for found in await store.list_denied(session)]
