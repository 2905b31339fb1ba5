"""Let devices in, know them again, keep what they say of themselves."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import json
import secrets
from datetime import timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from agents.protocol import v1 as wire
from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.fleet.domain import DeviceState, Freshness, Identity, Member, Token, freshness, why_not, with_boot
from control_plane.fleet.models import Device, EnrolmentToken
from control_plane.fleet.schemas import (
    DeviceClassItem,
    DeviceClassPut,
    DeviceItem,
    DevicePatch,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
    FleetLine,
)
from control_plane.kit import clock
from control_plane.kit.auth import hash_token
from control_plane.kit.db import Database, Session, execute
from control_plane.kit.errors import Conflict, Forbidden, Invalid, NotFound, Refused, Unauthenticated
from control_plane.kit.ids import new_id
from control_plane.kit.pages import Page, decode_cursor, page_of

MAX_COUNTER = 2**31 - 1


async def put_class(session: Session, name: str, body: DeviceClassPut) -> DeviceClassItem:
    await store.put_class(session, name, body.model_dump())
    return DeviceClassItem(name=name, **body.model_dump())


async def list_classes(session: Session) -> list[DeviceClassItem]:
    return [DeviceClassItem.model_validate(c, from_attributes=True) for c in await store.list_classes(session)]


async def create_token(session: Session, actor: str, body: EnrolmentTokenCreate) -> EnrolmentTokenItem:
    if await store.find_class(session, body.device_class) is None:
        raise Invalid(f"there is no device class {body.device_class!r}; add it first")
    token = f"fle_{secrets.token_urlsafe(24)}"
    expires_at = clock.now() + timedelta(seconds=body.ttl_s)
    session.add(
        EnrolmentToken(
            hash=hash_token(token),
            device_class=body.device_class,
            site=body.site,
            serial=body.serial,
            created_by=actor,
            expires_at=expires_at,
        )
    )
    return EnrolmentTokenItem(
        token=token, device_class=body.device_class, site=body.site, serial=body.serial, expires_at=expires_at
    )


async def enrol(session: Session, body: wire.EnrolRequest) -> str:
    """Admit a device; the same key with the same serial is the same device and may ask again."""
    key = _public_key(body.public_key_pem)
    _check_signature(key, body.proof, wire.enrol_proof(body.token, body.public_key_pem), "proof")
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    await store.lock_enrolment(session)
    token = await store.find_token(session, hash_token(body.token))
    again = await _known(session, digest, body.serial)
    if again is not None and token is not None and token.used_by == again.id:
        return again.id
    bound = Token(token.device_class, token.site, token.serial, token.expires_at, token.used_by) if token else None
    reason = why_not(bound, body.device_class, body.site, body.serial, clock.now())
    if reason or token is None:
        raise Forbidden(reason or "no token", code="enrolment_refused")
    device = again or _new_device(body, digest)
    session.add(device)
    token.used_at, token.used_by = clock.now(), device.id
    await audit.record(
        session,
        device.id,
        "device.enrol",
        device.id,
        f"with a token of {token.created_by}",
        serial=body.serial,
        site=body.site,
        device_class=body.device_class,
    )
    return device.id


async def _known(session: Session, key_sha256: str, serial: str) -> Device | None:
    found = await store.find_by_key_or_serial(session, key_sha256, serial)
    if not found:
        return None
    if len(found) > 1 or found[0].key_sha256 != key_sha256 or found[0].serial != serial:
        raise Conflict(
            f"serial {serial} is enrolled with another key, or this key with another serial; "
            "an operator must retire the old device first",
            code="identity_conflict",
        )
    return found[0]


def _new_device(body: wire.EnrolRequest, key_sha256: str) -> Device:
    return Device(
        id=new_id("dev"),
        serial=body.serial,
        public_key_pem=body.public_key_pem,
        key_sha256=key_sha256,
        device_class=body.device_class,
        site=body.site,
        labels=dict(body.labels),
        state=DeviceState.ACTIVE,
        agent_version=body.agent_version,
        boots=[],
        last_seq=-1,
        counter_floor=0,
        platform={},
        spool={},
    )


def _public_key(pem: str) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("public_key_pem is not a PEM public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Invalid("public_key_pem must be a P-256 key")
    return key


def _check_signature(key: EllipticCurvePublicKey, signature: str, data: bytes, what: str) -> None:
    try:
        key.verify(base64.b64decode(signature, validate=True), data, ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise Unauthenticated(f"the {what} is not signed by the device's key") from error


class Sightings:
    """Check-ins of this process on their way to the database: those that come while one write runs go with the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[bool]]] = {}
        self._writer: asyncio.Task[None] | None = None

    async def write(self, database: Database, device_id: str, values: dict[str, Any]) -> bool:
        """Return once the check-in is committed; False if it was not written and must be judged alone."""
        if device_id in self._waiting:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[device_id] = values, future
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(database))
        return await future

    async def _write_all(self, database: Database) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            written: set[str] = set()
            try:
                with contextlib.suppress(Exception):  # whatever was wrong with one, each is judged alone and hears it
                    written = await store.go_on(database, [values for values, _ in batch.values()])
            finally:
                for device_id, (_, future) in batch.items():
                    if not future.done():
                        future.set_result(device_id in written)


class Identities:
    """Devices this process knows, so that a signed request costs no query. NOTIFY takes changed ones out."""

    def __init__(self, most: int = 200_000) -> None:
        self._known: dict[str, tuple[EllipticCurvePublicKey, Identity]] = {}
        self._most = most
        self._changes = 0
        self.sightings = Sightings()

    def forget(self, device_id: str | None) -> None:
        self._changes += 1
        if device_id is None:
            self._known.clear()
        else:
            self._known.pop(device_id, None)

    def known(self, device_id: str) -> tuple[EllipticCurvePublicKey, Identity] | None:
        return self._known.get(device_id)

    async def of(self, session: Session, device_id: str) -> tuple[EllipticCurvePublicKey, Identity]:
        found = self.known(device_id)
        if found is None:
            changes = self._changes
            device = await store.find_device(session, device_id)
            if device is None:
                raise Unauthenticated("this device is not enrolled")
            found = (
                _public_key(device.public_key_pem),
                Identity(device.id, device.device_class, device.site, DeviceState(device.state)),
            )
            if len(self._known) >= self._most:
                self._known.clear()
            if changes == self._changes:  # what was read may be older than what a notification just took out
                self._known[device_id] = found
        return found


async def authenticate(
    session: Session, identities: Identities, headers: Any, method: str, target: str, body: bytes
) -> Identity:
    """Return whose key signed the request.

    Raises:
        Unauthenticated: no or wrong signature. Refused: the device is quarantined or retired.
    """
    device_id, signature = _credentials(headers)
    return _proven(await identities.of(session, device_id), signature, wire.signing_input(method, target, body))


def recognise(identities: Identities, headers: Any, method: str, target: str, body: bytes) -> Identity | None:
    """Do as `authenticate` does for a device that this process knows; return None for any other."""
    device_id, signature = _credentials(headers)
    found = identities.known(device_id)
    return _proven(found, signature, wire.signing_input(method, target, body)) if found else None


def _credentials(headers: Any) -> tuple[str, str]:
    device_id, signature = headers.get("fleetloop-device"), headers.get("fleetloop-signature")
    if not device_id or not signature or len(device_id) > 64 or len(signature) > 200:
        raise Unauthenticated("send Fleetloop-Device and Fleetloop-Signature")
    return device_id, signature


def _proven(found: tuple[EllipticCurvePublicKey, Identity], signature: str, signed: bytes) -> Identity:
    key, identity = found
    _check_signature(key, signature, signed, "request")
    _must_be_active(identity.id, identity.state)
    return identity


def _must_be_active(device_id: str, state: DeviceState) -> None:
    if state is not DeviceState.ACTIVE:
        raise Refused(f"device {device_id} is {state}", code=f"device_{state}")


async def go_on(database: Database, identities: Identities, identity: Identity, message: wire.CheckIn) -> bool:
    """Take a check-in that is beyond doubt, in one write with those of other devices; False: ask `see`."""
    active = message.active
    if max(message.counter_floor, active.counter if active else 0) > MAX_COUNTER:
        return False
    values = {
        "id": identity.id,
        "boot": message.boot_id,
        "last_seq": message.seq,
        "agent_version": message.agent_version,
        "counter_floor": message.counter_floor,
        "active_release": active.release_digest if active else None,
        "active_content": active.content_digest if active else None,
        "active_counter": active.counter if active else None,
        "deployment": message.deployment.model_dump(mode="json") if message.deployment else None,
        "spool": message.spool,
        "platform": message.platform or None,
    }
    return await identities.sightings.write(database, identity.id, values)


async def see(session: Session, identity: Identity, message: wire.CheckIn) -> int:
    """Take a check-in's word for the device's state, if the check-in is fresh; return its counter floor."""
    device = await store.lock_seen(session, identity.id)
    if device is None:
        raise Unauthenticated("this device is not enrolled")
    _must_be_active(identity.id, DeviceState(device["state"]))  # the identity came from a cache
    if max(message.counter_floor, message.active.counter if message.active else 0) > MAX_COUNTER:
        raise Invalid(f"a counter is at most {MAX_COUNTER}", code="malformed")
    match freshness(device["boots"], device["last_seq"], message.boot_id, message.seq):
        case Freshness.REPLAYED:
            raise Conflict(f"check-in {message.seq} of this boot was seen already", code="replayed")
        case Freshness.OLD_BOOT:
            raise Refused("this boot is over: a replay, or two devices with one key", code="old_boot")
        case Freshness.FRESH:
            pass
    floor = max(int(device["counter_floor"]), message.counter_floor)
    await store.update_seen(session, identity.id, _seen(message, with_boot(device["boots"], message.boot_id), floor))
    return floor


def _seen(message: wire.CheckIn, boots: list[str], floor: int) -> dict[str, Any]:
    """Return the columns that a check-in sets."""
    active = message.active
    return {
        "boots": json.dumps(boots),
        "last_seq": message.seq,
        "agent_version": message.agent_version,
        "counter_floor": floor,
        "active_release": active.release_digest if active else None,
        "active_content": active.content_digest if active else None,
        "active_counter": active.counter if active else None,
        "deployment": message.deployment.model_dump_json() if message.deployment else None,
        "spool": json.dumps(message.spool),
        "platform": json.dumps(message.platform) if message.platform else None,
    }


async def patch_device(session: Session, actor: str, device_id: str, body: DevicePatch) -> DeviceItem:
    device = await store.find_device(session, device_id, lock=True)
    if device is None:
        raise NotFound(f"there is no device {device_id}")
    device.state = body.state
    await execute(session, "select pg_notify('fleetloop_device', :id)", id=device_id)
    await audit.record(session, actor, f"device.{body.state}", device_id, body.reason)
    return _item(device)


async def get_device(session: Session, device_id: str) -> DeviceItem:
    device = await store.find_device(session, device_id)
    if device is None:
        raise NotFound(f"there is no device {device_id}")
    return _item(device)


async def list_devices(
    session: Session,
    *,
    site: str | None = None,
    device_class: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[DeviceItem]:
    cursor = decode_cursor(after)
    found = await store.list_devices(
        session, site=site, device_class=device_class, after=cursor[0] if cursor else None, limit=limit + 1
    )
    return page_of([_item(device) for device in found], limit, lambda item: item.id)


async def members(session: Session, device_classes: list[str], sites: list[str] | None) -> list[Member]:
    return [Member(*found) for found in await store.members(session, device_classes, sites)]


async def summary(session: Session) -> list[FleetLine]:
    return [FleetLine.model_validate(line, from_attributes=True) for line in await store.summary(session)]


def _item(device: Device) -> DeviceItem:
    return DeviceItem.model_validate(device, from_attributes=True)
