"""Take in metadata that was signed offline: the first root and targets, rotations, renewals, a new trust policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import canonical_json
from agents.protocol.v1.trust import (
    POLICY_BYTES,
    POLICY_PATH,
    REVOCATIONS_BYTES,
    REVOCATIONS_PATH,
    Revocations,
    TrustPolicy,
    read_policy,
    read_revocations,
)
from control_plane.audit import service as audit
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, Refused
from control_plane.kit.objects import ObjectStore
from control_plane.kit.signing import Keyring
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import check_policy_follows, check_root, check_targets, only_one
from control_plane.registry.service.repository import (
    keep_target,
    offline_row,
    open_state,
    sign_and_insert,
)
from control_plane.registry.store import repository as store

SIGNED = "signed"
"""Folder beside `keys.json` with every root, the newest targets and the trust policy, as the ceremonies made them."""


async def publish_offline(
    session: Session,
    objects: ObjectStore,
    keyring: Keyring,
    signed: Mapping[str, bytes],
    files: Mapping[str, bytes],
    *,
    roots: Sequence[bytes] = (),
    actor: str = "offline-keys",
) -> int:
    """Publish a new `root`, new `targets`, or both, with the trust policy's bytes; return the timestamp's version.

    `roots`: several at once, in order, in place of `root`.

    Whatever the new keys make invalid is signed again in the same transaction.

    Raises:
        Refused: signatures, versions, thresholds or shape are not right; nothing is changed.
    """
    chain = [*roots, *([signed["root"]] if "root" in signed else [])]
    if not (signed or roots) or set(signed) - set(tuf.OFFLINE):
        raise Invalid("give the signed bytes of 'root', 'targets' or both", code="metadata_refused")
    return await _publish(session, objects, keyring, chain, signed.get("targets"), only_one(files), actor)


async def _publish(
    session: Session,
    objects: ObjectStore,
    keyring: Keyring,
    roots: Sequence[bytes],
    targets: bytes | None,
    policy: bytes | None,
    actor: str,
    *,
    resume: bool = False,
) -> int:
    await store.lock(session)
    root = await _take_roots(session, roots)
    old = await _held_targets(session)
    if targets is not None:
        await _take_targets(session, objects, root, old, targets, policy)
    elif old is None or not root.get_verification_result("targets", old.signed_bytes, old.signatures):
        raise Refused("the new root asks for targets signed anew: send both together", code="targets_refused")
    changed = await _start_revocations(session, objects)
    version = await sign_and_insert(session, keyring, await open_state(session), changed, resume=resume)
    facts: dict[str, Any] = {"root": root.version, "targets": targets is not None, "revision": version}
    await audit.record(session, actor, "trust.offline", f"root {root.version}", **facts)
    return version


async def _take_roots(session: Session, roots: Sequence[bytes]) -> Root:
    held = await store.metadata(session, "root")
    root = tuf.load(Root, held).signed if held is not None else None
    now = clock.now()
    for number, data in enumerate(roots):
        new = tuf.load(Root, data)
        check_root(new, root, now if number == len(roots) - 1 else None)
        root = new.signed
        await store.insert_metadata(session, [offline_row("root", new, data, now)])
    if root is None:
        raise Refused("the first metadata must include a root", code="root_refused")
    return root


async def _held_targets(session: Session) -> Metadata[Targets] | None:
    held = await store.metadata(session, "targets")
    return tuf.load(Targets, held) if held is not None else None


async def _take_targets(
    session: Session,
    objects: ObjectStore,
    root: Root,
    old: Metadata[Targets] | None,
    data: bytes,
    policy: bytes | None,
) -> None:
    new, now = tuf.load(Targets, data), clock.now()
    if policy is None:
        policy = await policy_bytes(session, objects)
    if policy is None:
        raise Invalid(f"send the bytes of {POLICY_PATH} with the first targets", code="metadata_refused")
    check_targets(new, root, old.signed if old is not None else None, policy, now)
    check_policy_follows(parse_policy(policy), await current_policy(session, objects))
    await keep_target(session, objects, POLICY_PATH, "targets", policy)
    await store.insert_metadata(session, [offline_row("targets", new, data, now)])


async def _start_revocations(session: Session, objects: ObjectStore) -> set[str]:
    """List an empty list of revocations if there is none, or if a new policy begins another epoch."""
    policy, held = await current_policy(session, objects), await current_revocations(session, objects)
    epoch = policy.revocation_epoch if policy is not None else 0
    if held is not None and held.epoch >= epoch:
        return set()
    empty = canonical_json(Revocations(epoch=epoch).model_dump(mode="json", by_alias=True))
    await keep_target(session, objects, REVOCATIONS_PATH, "revocations", empty)
    return {"revocations"}


async def current_revocations(session: Session, objects: ObjectStore) -> Revocations | None:
    found = await store.target(session, REVOCATIONS_PATH)
    return None if found is None else read_revocations(await objects.read(found.sha256, max_size=REVOCATIONS_BYTES))


def parse_policy(data: bytes) -> TrustPolicy:
    """Read a trust policy.

    Raises:
        Refused: it is not one that a device would accept.
    """
    try:
        return read_policy(data)
    except ValueError as error:
        raise Refused(f"this is no trust policy: {error}", code="policy_refused") from error


async def policy_bytes(session: Session, objects: ObjectStore) -> bytes | None:
    """Return the published trust policy, None before there is one."""
    found = await store.target(session, POLICY_PATH)
    return None if found is None else await objects.read(found.sha256, max_size=POLICY_BYTES)


async def current_policy(session: Session, objects: ObjectStore) -> TrustPolicy | None:
    data = await policy_bytes(session, objects)
    return None if data is None else parse_policy(data)


async def adopt_signed(session: Session, objects: ObjectStore, keyring: Keyring, *, resume: bool = False) -> int | None:
    """Publish what the folder `signed` has above the database; return the timestamp's version if there was any.

    So a new server publishes its first root, `fleetloop keys rotate` on this machine needs no upload, and roots
    that a restored backup lacks come back.
    """
    folder = keyring.folder / SIGNED
    if not folder.is_dir():
        return None
    await store.lock(session)
    held = {row.role: row.version for row in await store.newest(session)}
    roots = [path.read_bytes() for number, path in versions_in(folder, "root") if number > held.get("root", 0)]
    newest = versions_in(folder, "targets")[-1:]
    targets = next((path.read_bytes() for number, path in newest if number > held.get("targets", 0)), None)
    if not roots and targets is None:
        return None
    policy = folder / Path(POLICY_PATH).name
    given = policy.read_bytes() if policy.exists() else None
    return await _publish(session, objects, keyring, roots, targets, given, "signed-folder", resume=resume)


def versions_in(folder: Path, role: str) -> list[tuple[int, Path]]:
    """Return the (version, file) pairs N.ROLE.json of a folder, ascending."""
    found = [(path.name.partition(".")[0], path) for path in folder.glob(f"*.{role}.json")]
    return sorted((int(number), path) for number, path in found if number.isdigit())


async def resume_after_restore(session: Session, objects: ObjectStore, keyring: Keyring, actor: str) -> int:
    """Sign everything online again above all that was ever published from here; return the timestamp's version."""
    version = await adopt_signed(session, objects, keyring, resume=True)
    if version is None:
        version = await sign_and_insert(session, keyring, await open_state(session), (), resume=True)
    await audit.record(session, actor, "trust.resume", f"timestamp {version}", "the database was restored")
    return version
