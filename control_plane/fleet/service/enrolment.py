"""Let devices in: classes, single-use tokens, and the question whose a serial is."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from agents.protocol import v1 as wire
from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.fleet.domain import ConflictState, DeviceState, Token, why_not
from control_plane.fleet.models import Device, EnrolmentConflict, EnrolmentToken
from control_plane.fleet.schemas import (
    ConflictDecision,
    ConflictItem,
    DeviceClassItem,
    DeviceClassPut,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
)
from control_plane.fleet.service.identities import check_signature, public_key
from control_plane.kit import clock
from control_plane.kit.auth import hash_token
from control_plane.kit.certificates import Authority, read_csr, spki_sha256
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from control_plane.kit.ids import new_id
from control_plane.review import service as review

CONFLICT_REVIEW = "device.enrolment_conflict"


async def put_class(session: Session, name: str, body: DeviceClassPut) -> DeviceClassItem:
    rule = await store.put_class(session, name, body.model_dump(exclude_none=True))
    return DeviceClassItem(name=name, title=body.title, facts=body.facts, safe_state=rule)


async def list_classes(session: Session) -> list[DeviceClassItem]:
    return [DeviceClassItem.model_validate(c, from_attributes=True) for c in await store.list_classes(session)]


async def create_token(
    session: Session, actor: str, body: EnrolmentTokenCreate, authority: Authority | None = None
) -> EnrolmentTokenItem:
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
        token=token,
        device_class=body.device_class,
        site=body.site,
        serial=body.serial,
        expires_at=expires_at,
        ca_sha256=authority.sha256 if authority else None,
    )


async def enrol(session: Session, body: wire.EnrolRequest) -> str:
    """Admit a device; the same key with the same serial is the same device and may ask again.

    Raises:
        Forbidden: the token or the key is not good. Conflict: the serial or the key belongs to another device.
    """
    key = public_key(body.public_key_pem)
    check_signature(key, body.proof, wire.enrol_proof(body.token, body.public_key_pem), "proof")
    digest = spki_sha256(key)
    if body.csr_pem is not None and spki_sha256(read_csr(body.csr_pem)) != digest:
        raise Invalid("the signing request is for another key than public_key_pem", code="bad_csr")
    await store.lock_enrolment(session)
    if await store.is_denied(session, digest):
        raise Forbidden("this key is denied", code="key_denied")
    token = await store.find_token(session, hash_token(body.token))
    known = await _known(session, digest, body.serial)
    if known is not None and token is not None and token.used_by == known.id and known.key_sha256 == digest:
        return known.id
    token = _good(token, body)
    if known is not None and known.key_sha256 != digest:
        raise _pending(known.id, body, digest, token.hash)
    return await _admit(session, known or _new_device(body, digest), token, body)


async def _admit(session: Session, device: Device, token: EnrolmentToken, body: wire.EnrolRequest) -> str:
    session.add(device)
    token.used_at, token.used_by = clock.now(), device.id
    await session.flush()
    facts = {"serial": body.serial, "site": body.site, "device_class": body.device_class}
    await audit.record(session, device.id, "device.enrol", device.id, f"with a token of {token.created_by}", **facts)
    return device.id


def _good(token: EnrolmentToken | None, body: wire.EnrolRequest) -> EnrolmentToken:
    """Return the token if it lets this device in; one that exists and is tried for another is used up after a while."""
    bound = (
        Token(token.device_class, token.site, token.serial, token.expires_at, token.used_by, token.failures)
        if token
        else None
    )
    reason = why_not(bound, body.device_class, body.site, body.serial, clock.now())
    if reason or token is None:
        problem = Forbidden(reason or "no token", code="enrolment_refused")
        if token is not None:
            problem.afterwards = partial(store.count_token_failure, token_hash=token.hash)
        raise problem
    return token


async def _known(session: Session, key_sha256: str, serial: str) -> Device | None:
    """Return the device with this serial; a key that is another device's is nobody else's."""
    found = await store.find_by_key_or_serial(session, key_sha256, serial)
    if any(device.serial != serial for device in found):
        raise Conflict(f"this key is of another device than serial {serial}", code="identity_conflict")
    return found[0] if found else None


def _pending(device_id: str, body: wire.EnrolRequest, key_sha256: str, token_hash: str) -> Problem:
    problem = Conflict(
        f"serial {body.serial} is enrolled with another key; an operator has to decide whose it is",
        code="identity_conflict",
    )
    problem.afterwards = _asker(device_id, body, key_sha256, token_hash)
    return problem


def _asker(
    device_id: str, body: wire.EnrolRequest, key_sha256: str, token_hash: str
) -> Callable[[Session], Awaitable[None]]:
    async def ask(session: Session) -> None:
        await store.lock_enrolment(session)
        if await store.find_conflict_of(session, device_id, key_sha256) is not None:
            return
        conflict = EnrolmentConflict(
            id=new_id("con"),
            device_id=device_id,
            serial=body.serial,
            public_key_pem=body.public_key_pem,
            key_sha256=key_sha256,
            token_hash=token_hash,
            state=ConflictState.PENDING,
        )
        session.add(conflict)
        await session.flush()
        question = f"Serial {body.serial} enrols with a new key: was its computer replaced?"
        await review.ask(session, "fleet", CONFLICT_REVIEW, device_id, question, {"conflict": conflict.id})
        await audit.record(session, "fleet", "device.enrolment_conflict", device_id, question, key_sha256=key_sha256)

    return ask


async def list_conflicts(session: Session) -> list[ConflictItem]:
    return [ConflictItem.model_validate(c, from_attributes=True) for c in await store.list_conflicts(session)]


async def decide_conflict(session: Session, actor: str, conflict_id: str, body: ConflictDecision) -> ConflictItem:
    """Give the device its new key and deny the old one, or leave all as it is."""
    await store.lock_enrolment(session)
    conflict = await store.find_conflict(session, conflict_id)
    if conflict is None:
        raise NotFound(f"there is no enrolment conflict {conflict_id}")
    if conflict.state != ConflictState.PENDING:
        raise Conflict(f"this conflict is {conflict.state} already")
    conflict.state = ConflictState.ACCEPTED if body.accept else ConflictState.REJECTED
    conflict.decided_by, conflict.decided_at, conflict.reason = actor, clock.now(), body.reason
    if body.accept:
        await _replace_key(session, actor, conflict, body.reason)
    action = f"device.conflict_{conflict.state}"
    await audit.record(session, actor, action, conflict.device_id, body.reason, key_sha256=conflict.key_sha256)
    return ConflictItem.model_validate(conflict, from_attributes=True)


async def _replace_key(session: Session, actor: str, conflict: EnrolmentConflict, reason: str) -> None:
    device = await store.find_device(session, conflict.device_id, lock=True)
    if device is None:
        raise NotFound(f"there is no device {conflict.device_id}")
    if len(await store.find_by_key_or_serial(session, conflict.key_sha256, conflict.serial)) > 1:
        raise Conflict("that key is another device's by now", code="identity_conflict")
    await store.deny_key(session, device.key_sha256, device.id, f"replaced: {reason}", None, actor)
    device.public_key_pem, device.key_sha256 = conflict.public_key_pem, conflict.key_sha256
    device.certificate_expires_at = None
    forget_boots(device)
    await store.use_token(session, conflict.token_hash, device.id)
    await store.tell(session, device.id)


def forget_boots(device: Device) -> None:
    """Begin anew with a device: whoever speaks first is in its newest boot."""
    device.boots, device.last_seq, device.last_nonce, device.boot_ends = [], -1, None, {}


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
        boot_ends={},
        last_seq=-1,
        counter_floor=0,
        platform={},
        spool={},
    )
