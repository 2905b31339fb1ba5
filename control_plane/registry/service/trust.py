"""What people see and do about trust: the state of every role, alarms, revocations; and what devices fetch."""

import logging
from collections.abc import Mapping

from tuf.api.metadata import Root, Targets

from agents.protocol.v1 import canonical_json
from agents.protocol.v1.trust import REVOCATIONS_PATH, Revocations
from control_plane.audit import service as audit
from control_plane.kit import clock, outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.signing import Keyring
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import Held, alarms, due
from control_plane.registry.schemas import AlarmItem, RevocationCreate, RevocationItem, RoleItem, TrustItem
from control_plane.registry.service.offline import current_policy, current_revocations
from control_plane.registry.service.repository import publish_targets
from control_plane.registry.store import repository as store

log = logging.getLogger("fleetloop.trust")
ACTOR = "trust-reconciler"
ALARM = "trust.alarm"
"""Outbox topic: something is wrong with what devices trust."""


async def trust_status(session: Session, keyring: Keyring) -> TrustItem:
    """Return every role with its keys, versions and expiry, and what a person must see to."""
    held = await newest(session)
    standing = await _alarms(session, held)
    root, targets = await store.metadata(session, "root"), await store.metadata(session, "targets")
    if root is None or targets is None:
        return TrustItem(ready=False, revision=0, roles=[], alarms=standing)
    trusted = tuf.Trusted(tuf.load(Root, root).signed, tuf.load(Targets, targets).signed)
    roles = [_role(role, trusted, held[role], keyring) for role in (*tuf.TOP, *tuf.DELEGATED) if role in held]
    return TrustItem(ready=True, revision=held["timestamp"].version, roles=roles, alarms=standing)


async def _alarms(session: Session, held: Mapping[str, Held]) -> list[AlarmItem]:
    """Return the alarms that stand, and those that a dead worker has not raised."""
    now = clock.now()
    known = {e.subject: AlarmItem.model_validate(e, from_attributes=True) for e in await store.alarms(session)}
    seen = {name: AlarmItem(subject=name, because=why, since=now) for name, why in alarms(held, None, now).items()}
    return list((seen | known).values())


def _role(role: str, trusted: tuf.Trusted, held: Held, keyring: Keyring) -> RoleItem:
    who = trusted.who(role)
    mine = {each.keyid for name in keyring.roles for each in keyring.entries(name)}
    return RoleItem(
        role=role,
        keyids=list(who.keyids),
        threshold=who.threshold,
        keys_known_here=len(mine & set(who.keyids)),
        version=held.version,
        published_at=held.published_at,
        expires_at=held.expires_at,
    )


async def newest(session: Session) -> dict[str, Held]:
    return {row.role: Held(row.version, row.expires_at, row.published_at) for row in await store.newest(session)}


async def anything_due(session: Session) -> bool:
    """Say, without the lock, whether there is something to sign again."""
    held = await newest(session)
    return bool(held) and bool(due(held, clock.now()))


async def latest_metadata(session: Session, role: str) -> bytes:
    found = await store.metadata(session, role)
    if found is None:
        raise NotFound(f"there is no metadata of role {role!r}")
    return found


async def first_root(session: Session) -> bytes | None:
    """Return the root that new devices are given; None before `fleetloop keys init`."""
    return await store.metadata(session, "root", 1)


async def revoke(
    session: Session, objects: ObjectStore, keyring: Keyring, actor: str, body: RevocationCreate
) -> RevocationItem:
    """Add digests and keys to what must not run or count any more; nothing is ever taken off the list here."""
    if not (body.content_digests or body.release_digests or body.keys):
        raise Invalid("name at least one content digest, release digest or key id", code="nothing_to_revoke")
    await store.lock(session)
    held = await current_revocations(session, objects) or Revocations()
    try:
        made = Revocations(
            epoch=held.epoch,
            content_digests=_union(held.content_digests, body.content_digests),
            release_digests=_union(held.release_digests, body.release_digests),
            keys=_union(held.keys, body.keys),
        )
    except ValueError as error:
        raise Invalid(f"the list of revocations would be too long: {error}", code="too_many_revocations") from error
    data = canonical_json(made.model_dump(mode="json", by_alias=True))
    version = await publish_targets(session, objects, keyring, {REVOCATIONS_PATH: data})
    named = [*body.content_digests, *body.release_digests, *body.keys]
    await audit.record(session, actor, "trust.revoke", named[0], body.reason, revision=version, **body.lists())
    return RevocationItem(revision=version, **made.model_dump(exclude={"schema_"}))


def _union(held: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
    return tuple(sorted({*held, *more}))


async def revocations(session: Session, objects: ObjectStore) -> RevocationItem:
    held = await current_revocations(session, objects) or Revocations()
    return RevocationItem(revision=await store.revision(session), **held.model_dump(exclude={"schema_"}))


async def look_for_alarms(session: Session, objects: ObjectStore, failures: Mapping[str, str]) -> dict[str, str]:
    """Make the alarms that stand those that hold now; log and audit each as it comes and goes."""
    policy = await current_policy(session, objects)
    found = alarms(await newest(session), policy, clock.now()) | dict(failures)
    standing = {each.subject for each in await store.alarms(session)}
    await store.set_alarms(session, found)
    for subject in sorted(found.keys() - standing):
        log.error("trust alarm: %s", found[subject])
        await outbox.tell(session, ALARM, subject, found[subject], "/settings/installation")
        await audit.record(session, ACTOR, "trust.alarm", subject, found[subject])
    for subject in sorted(standing - found.keys()):
        await audit.record(session, ACTOR, "trust.alarm_over", subject)
    return found


# What any TUF client may fetch without a name.


async def published_metadata(session: Session, role: str, version: int | None) -> bytes | None:
    return await store.metadata(session, role, version)


async def published_target(session: Session, path: str, sha256: str) -> int | None:
    """Return the size of a target file, if TUF lists it or did a moment ago."""
    return await store.public_bytes(session, path, sha256)
