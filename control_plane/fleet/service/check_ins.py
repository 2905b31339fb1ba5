"""What a device says of itself, believed if it is fresh; and what to do when two computers speak with one key."""

import json
from functools import partial
from typing import Any

from agents.protocol import v1 as wire
from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.fleet.domain import (
    TOLD_QUARANTINED,
    DeviceState,
    Freshness,
    Heard,
    Identity,
    freshness,
    with_check_in,
    with_late,
)
from control_plane.fleet.service.identities import Identities, must_stand
from control_plane.kit import outbox
from control_plane.kit.db import Database, Row, Session
from control_plane.kit.errors import Conflict, Invalid, Problem, Refused
from control_plane.review import service as review

MAX_COUNTER = 2**31 - 1
CLONE_REVIEW = "device.clone"


async def go_on(database: Database, identities: Identities, identity: Identity, message: wire.CheckIn) -> bool:
    """Take a check-in that is beyond doubt, in one write with those of other devices; False: ask `see`."""
    active = message.active
    if max(message.counter_floor, active.counter if active else 0) > MAX_COUNTER:
        return False
    values = {
        "id": identity.id,
        "key": identity.key_sha256,
        "boot": message.boot_id,
        "last_seq": message.seq,
        "nonce": message.nonce,
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
    must_stand(identity, device)
    if device is None:
        raise AssertionError("must_stand refuses a device that is not there")
    if max(message.counter_floor, message.active.counter if message.active else 0) > MAX_COUNTER:
        raise Invalid(f"a counter is at most {MAX_COUNTER}", code="malformed")
    heard = heard_of(device)
    found = freshness(heard, message.boot_id, message.seq, message.nonce)
    if found is not Freshness.FRESH:
        raise _refusal(found, identity.id, message)
    floor = max(int(device["counter_floor"]), message.counter_floor)
    heard = with_check_in(heard, message.boot_id, message.seq, message.nonce)
    await store.update_seen(session, identity.id, _seen(message, heard, floor))
    return floor


def heard_of(device: Row) -> Heard:
    """Return what a device's row says was heard of it."""
    return Heard(device["boots"], device["last_seq"], device["last_nonce"], device["boot_ends"])


def _refusal(found: Freshness, device_id: str, message: wire.CheckIn) -> Problem:
    """Return what to answer; what is to be remembered of it is written after the request's transaction is undone."""
    if found is Freshness.REPLAYED:
        return Conflict(f"check-in {message.seq} of this boot was seen already", code="replayed")
    if found is Freshness.CLONED:
        problem: Problem = Refused(
            "two computers speak with this device's key; it is quarantined", code="device_cloned"
        )
        problem.afterwards = partial(quarantine_clone, device_id=device_id, boot_id=message.boot_id, seq=message.seq)
        return problem
    problem = Refused("this boot is over: a replay, or two devices with one key", code="old_boot")
    if found is Freshness.LATE:
        problem.afterwards = partial(_remember_late, device_id=device_id, message=message)
    return problem


async def _remember_late(session: Session, device_id: str, message: wire.CheckIn) -> None:
    device = await store.lock_seen(session, device_id)
    if (
        device is not None
        and freshness(heard_of(device), message.boot_id, message.seq, message.nonce) is Freshness.LATE
    ):
        heard = with_late(heard_of(device), message.boot_id, message.seq)
        await store.put_boot_ends(session, device_id, json.dumps(heard.ends))


async def quarantine_clone(session: Session, device_id: str, boot_id: str, seq: int) -> None:
    """Stop both computers and ask a person; nobody can tell here which of them is the device."""
    device = await store.find_device(session, device_id, lock=True)
    if device is None or device.state != DeviceState.ACTIVE:
        return
    device.state = DeviceState.QUARANTINED
    await store.tell(session, device_id)
    evidence = {"boots": list(device.boots), "last_seq": device.last_seq, "boot": boot_id, "seq": seq}
    because = "two computers check in with one key"
    question = f"{because}: which of them is {device.serial}? Readmit it once the other is off, or deny the key"
    await review.ask(session, "fleet", CLONE_REVIEW, device_id, question, evidence)
    await outbox.tell(session, TOLD_QUARANTINED, device_id, because, f"/fleet/{device_id}")
    await audit.record(session, "fleet", "device.quarantined", device_id, because, **evidence)


def _seen(message: wire.CheckIn, heard: Heard, floor: int) -> dict[str, Any]:
    """Return the columns that a check-in sets."""
    active = message.active
    return {
        "boots": json.dumps(list(heard.boots)),
        "last_seq": heard.last_seq,
        "last_nonce": heard.last_nonce,
        "boot_ends": json.dumps(heard.ends),
        "agent_version": message.agent_version,
        "counter_floor": floor,
        "active_release": active.release_digest if active else None,
        "active_content": active.content_digest if active else None,
        "active_counter": active.counter if active else None,
        "deployment": message.deployment.model_dump_json() if message.deployment else None,
        "spool": json.dumps(message.spool),
        "platform": json.dumps(message.platform) if message.platform else None,
    }
