"""Publish: list files, sign what that changes, and insert all of it in one transaction, or none of it.

Readers see committed rows only, so a crash at any step leaves the repository as it was.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import sha256_hex
from control_plane.kit import clock
from control_plane.kit.db import Session, execute
from control_plane.kit.errors import Conflict, Invalid
from control_plane.kit.objects import ObjectStore
from control_plane.kit.signing import Keyring
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import Held, due
from control_plane.registry.models import TufTarget
from control_plane.registry.service.mark import Mark, read_mark, write_mark
from control_plane.registry.store import put_artifacts
from control_plane.registry.store import repository as store

TARGET_MEDIA_TYPE = "application/vnd.fleetloop.tuf-target"
MAX_TARGET_BYTES = 4 << 20
MAX_FILES = 1000
KEEP_REPLACED = timedelta(days=7)
"""For clients in the middle of a refresh; a week is far longer than one may take."""
_BASE = "tuf_committed_version"


@dataclass(slots=True)
class State:
    """The repository as it stands, inside its lock."""

    trusted: tuf.Trusted
    held: dict[str, Held]
    now: datetime
    fresh: dict[str, tuple[int, datetime, bytes]] = field(default_factory=dict)

    def version(self, role: str) -> int:
        if role in self.fresh:
            return self.fresh[role][0]
        return self.held[role].version if role in self.held else 0


async def publish_targets(
    session: Session,
    objects: ObjectStore,
    keyring: Keyring,
    files: Mapping[str, bytes],
    custom: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """List files under `releases/`, `attestations/` or `policy/revocations.json`; return the timestamp's version.

    What is listed already with these bytes changes nothing. The caller's transaction makes it visible.

    Raises:
        Invalid: a path that no online role may list, or too many or too large files.
        Conflict: no offline metadata has been published yet.
        Refused: a key is missing, or the database is a restored backup.
    """
    if len(files) > MAX_FILES:
        raise Invalid(f"{len(files)} files at once, at most {MAX_FILES}", code="too_many_targets")
    roles = {path: tuf.role_of(path) for path in files}
    rows = [
        {"path": path, "role": roles[path], **(await _keep(session, objects, data)), "custom": _plain(custom, path)}
        for path, data in sorted(files.items())
    ]
    state = await open_state(session)
    changed = {row["role"] for row in rows if await store.list_target(session, row, state.now)}
    if not changed:
        return state.version("timestamp")
    return await sign_and_insert(session, keyring, state, changed)


async def keep_target(session: Session, objects: ObjectStore, path: str, role: str, data: bytes) -> None:
    """List a file that offline metadata names."""
    row = {"path": path, "role": role, **(await _keep(session, objects, data)), "custom": None}
    await store.list_target(session, row, clock.now())


async def _keep(session: Session, objects: ObjectStore, data: bytes) -> dict[str, Any]:
    if len(data) > MAX_TARGET_BYTES:
        raise Invalid(f"a target file has {len(data)} bytes, at most {MAX_TARGET_BYTES}", code="target_too_large")
    stored = await objects.put_bytes(data)
    artifact = {"sha256": stored.sha256, "size_bytes": len(data), "media_type": TARGET_MEDIA_TYPE}
    await put_artifacts(session, [artifact])
    return {"sha256": sha256_hex(data), "length_bytes": len(data)}


def _plain(custom: Mapping[str, Mapping[str, Any]] | None, path: str) -> dict[str, Any] | None:
    found = (custom or {}).get(path)
    return dict(found) if found else None


async def open_state(session: Session) -> State:
    """Take the repository's lock and read what stands.

    Raises:
        Conflict: there is no root yet.
    """
    await store.lock(session)
    held = {row.role: Held(row.version, row.expires_at, row.published_at) for row in await store.newest(session)}
    root, targets = await store.metadata(session, "root"), await store.metadata(session, "targets")
    if root is None or targets is None:
        raise Conflict(
            "this server has no TUF root yet; run: fleetloop keys init, and start it with that home",
            code="trust_not_set_up",
        )
    trusted = tuf.Trusted(tuf.load(Root, root).signed, tuf.load(Targets, targets).signed)
    return State(trusted, held, clock.now())


async def renew(session: Session, keyring: Keyring) -> int | None:
    """Sign again whatever is due; return the new timestamp version, or None if nothing was."""
    state = await open_state(session)
    if not due(state.held, state.now):
        return None
    return await sign_and_insert(session, keyring, state, ())


async def sign_and_insert(
    session: Session, keyring: Keyring, state: State, changed: Collection[str], *, resume: bool = False
) -> int:
    """Sign changed, due and wrongly signed roles, then snapshot and timestamp; insert all rows.

    `resume`: go above everything ever published, after a backup was restored.
    """
    base: int = session.info.setdefault(_BASE, state.version("timestamp"))
    mark = read_mark(keyring.folder)
    gap = max(0, mark.written - base) if resume else mark.gap(base)
    if session.info[_BASE] != state.version("timestamp"):
        gap = 0  # a second publish in one transaction: the first has skipped already
    roles = await _roles_to_sign(session, state, changed, everything=gap > 0)
    listed = await store.listed(session, [role for role in roles if role != "releases"])
    await asyncio.to_thread(_sign, keyring, state, roles, listed, gap)
    version = state.version("timestamp")
    # Before the commit: a crash in between skips numbers, the other order could sign one twice.
    write_mark(keyring.folder, Mark(base, max(mark.written, version)))
    await store.insert_metadata(session, [_row(role, *made, state.now) for role, made in state.fresh.items()])
    await store.prune(session, state.now - KEEP_REPLACED)
    # The next check-in of every device names this revision, so that a revocation is heard at once.
    await execute(session, "select pg_notify('fleetloop_rollout', '')")
    return version


async def _roles_to_sign(session: Session, state: State, changed: Collection[str], *, everything: bool) -> list[str]:
    names = (*tuf.DELEGATED, *tuf.BINS)
    if everything:
        return list(names)
    wanted = set(changed) | due(state.held, state.now)
    for role in tuf.DELEGATED:
        data = await store.metadata(session, role)
        if data is None or not state.trusted.verified(role, tuf.load(Targets, data)):
            # The bins have the releases role's keys: when those change, all are signed again.
            wanted |= {role, *tuf.BINS} if role == "releases" else {role}
    return [role for role in names if role in wanted]


def _sign(keyring: Keyring, state: State, roles: Sequence[str], listed: Sequence[TufTarget], gap: int) -> None:
    """Fill `state.fresh`; in a thread, because a key may be across a network."""
    files: dict[str, list[tuf.Listed]] = {role: [] for role in roles}
    for each in listed:
        files[each.role].append(tuf.Listed(each.path, each.sha256, each.length_bytes, each.custom))
    for role in roles:
        version = state.version(role) + 1 + gap
        if role == "releases":
            made = tuf.make_releases(version, state.now, state.trusted)
        else:
            made = tuf.make_list(role, version, state.now, files[role])
        _seal(keyring, state, role, made)
    versions = {role: state.version(role) for role in ("targets", *tuf.DELEGATED, *tuf.BINS)}
    snapshot = tuf.make_snapshot(state.version("snapshot") + 1 + gap, state.now, versions)
    data = _seal(keyring, state, "snapshot", snapshot)
    stamp = tuf.make_timestamp(state.version("timestamp") + 1 + gap, state.now, snapshot.version, data)
    _seal(keyring, state, "timestamp", stamp)


def _seal(keyring: Keyring, state: State, role: str, signed: Any) -> bytes:
    who = state.trusted.who(role)
    data = tuf.seal(state.trusted, role, signed, keyring.signers(role, who.keyids, who.threshold))
    state.fresh[role] = (signed.version, signed.expires, data)
    return data


def _row(role: str, version: int, expires_at: datetime, data: bytes, now: datetime) -> dict[str, Any]:
    return {"role": role, "version": version, "data": data, "expires_at": expires_at, "published_at": now}


def offline_row(role: str, metadata: Metadata[Any], data: bytes, now: datetime) -> dict[str, Any]:
    return _row(role, metadata.signed.version, metadata.signed.expires, data, now)


async def confirm(session: Session, keyring: Keyring) -> None:
    """Note that what the database shows was committed.

    Raises:
        Refused: it shows less than was published.
    """
    version, mark = await store.revision(session), read_mark(keyring.folder)
    mark.gap(version)
    if mark.confirmed < version:
        await store.lock(session)  # another publisher may be about to write the mark
        version, mark = await store.revision(session), read_mark(keyring.folder)
        write_mark(keyring.folder, Mark(version, max(mark.written, version)))


async def revision(session: Session) -> int:
    """Return the version of the published timestamp, 0 if there is none."""
    return await store.revision(session)
