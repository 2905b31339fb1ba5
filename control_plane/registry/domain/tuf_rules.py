"""What must hold of metadata that was signed offline, when online metadata is signed again, and what gives alarm."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import sha256_hex
from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH, TrustPolicy
from control_plane.kit.errors import Invalid, Refused
from control_plane.registry.domain.tuf import BINS, DELEGATED, OFFLINE, RELEASE_PATHS, TOP, lifetime

TIMESTAMP_RENEWAL: Final = timedelta(hours=6)
ONLINE_ALARM: Final = timedelta(hours=24)
OFFLINE_ALARM: Final = timedelta(days=30)
DIRECTOR_ALARM: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Held:
    """The newest version of one role's metadata."""

    version: int
    expires_at: datetime
    published_at: datetime


def due(held: Mapping[str, Held], now: datetime) -> frozenset[str]:
    """Return the online roles to sign again now: missing ones, and those in the last third of their lifetime."""
    wanted = (*DELEGATED, *BINS, "snapshot")
    late = {role for role in wanted if role not in held or held[role].expires_at - now < lifetime(role) / 3}
    stamp = held.get("timestamp")
    if stamp is None or now - stamp.published_at >= TIMESTAMP_RENEWAL or stamp.expires_at - now < TIMESTAMP_RENEWAL:
        late.add("timestamp")
    return frozenset(late)


def alarms(held: Mapping[str, Held], policy: TrustPolicy | None, now: datetime) -> dict[str, str]:
    """Return what a person must see to, by subject, as sentences."""
    found: dict[str, str] = {}
    for role, each in sorted(held.items()):
        left, margin = each.expires_at - now, OFFLINE_ALARM if role in OFFLINE else ONLINE_ALARM
        if left < margin:
            found[role] = f"{role} version {each.version} {_when(left)}; {_remedy(role)}"
    for name in policy.director if policy else ():
        ends = policy.keys[name].not_after if policy else None
        if ends is not None and ends - now < DIRECTOR_ALARM:
            found[f"director key {name[:12]}"] = f"director key {name[:12]} {_when(ends - now)}; rotate it"
    return found


def _when(left: timedelta) -> str:
    hours = left.total_seconds() / 3600
    if hours <= 0:
        return f"expired {-hours:.0f} h ago: devices install nothing new"
    return f"expires in {hours:.0f} h" if hours < 72 else f"expires in {hours / 24:.0f} days"


def _remedy(role: str) -> str:
    return f"renew it with the offline keys: fleetloop keys renew {role}" if role in OFFLINE else "re-signing fails"


def check_root(new: Metadata[Root], old: Root | None, now: datetime | None) -> None:
    """Check a root signed offline, against itself and the one before it; `now` is None inside a chain of roots.

    Raises:
        Refused: wrong version, too few signatures, expired, or a shape that devices cannot follow.
    """
    root = new.signed
    wanted = 1 if old is None else old.version + 1
    if root.version != wanted:
        raise Refused(f"root version {root.version} does not follow: {wanted} is next", code="root_refused")
    result = root.get_root_verification_result(old, new.signed_bytes, new.signatures)
    for which, each in (("the root before it", result.first), ("itself", result.second)):
        if not each:
            raise Refused(
                f"root {root.version} has {len(each.signed)} of {each.threshold} signatures that {which} asks for",
                code="root_refused",
            )
    if now is not None and root.is_expired(now):
        raise Refused(f"root {root.version} expired on {root.expires:%Y-%m-%d}", code="root_refused")
    if not root.consistent_snapshot:
        raise Refused("root must say consistent_snapshot", code="root_refused")
    _check_distinct(root)


def _check_distinct(root: Root) -> None:
    """One key under two ids would meet a threshold of two."""
    for name in TOP:
        material = [str(root.keys[keyid].to_dict()["keyval"]) for keyid in root.roles[name].keyids]
        if len(set(material)) != len(material):
            raise Refused(f"root lists one key twice for {name}, under two ids", code="root_refused")
    online = set(root.roles["snapshot"].keyids) | set(root.roles["timestamp"].keyids)
    offline = set(root.roles["root"].keyids) | set(root.roles["targets"].keyids)
    if online & offline:
        raise Refused("a key of snapshot or timestamp must not sign root or targets", code="root_refused")


def check_targets(new: Metadata[Targets], root: Root, old: Targets | None, policy: bytes, now: datetime) -> None:
    """Check top-level targets signed offline, and the trust policy it lists.

    Raises:
        Refused: older than what is published, too few signatures, expired, or a shape of its own.
    """
    targets = new.signed
    if old is not None and targets.version <= old.version:
        raise Refused(f"targets version {targets.version} is not above {old.version}", code="targets_refused")
    result = root.get_verification_result("targets", new.signed_bytes, new.signatures)
    if not result:
        raise Refused(
            f"targets {targets.version} has {len(result.signed)} of {result.threshold} signatures",
            code="targets_refused",
        )
    if targets.is_expired(now):
        raise Refused(f"targets {targets.version} expired on {targets.expires:%Y-%m-%d}", code="targets_refused")
    _check_shape(targets)
    listed = targets.targets[POLICY_PATH]
    if listed.hashes.get("sha256") != sha256_hex(policy) or listed.length != len(policy):
        raise Refused(f"the bytes given for {POLICY_PATH} are not those that targets lists", code="targets_refused")


def _check_shape(targets: Targets) -> None:
    if set(targets.targets) != {POLICY_PATH}:
        raise Refused(f"targets must list {POLICY_PATH} and nothing else", code="targets_refused")
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    paths = {name: (tuple(role.paths or ()), role.terminating) for name, role in roles.items()}
    if paths != {"revocations": ((REVOCATIONS_PATH,), True), "releases": (RELEASE_PATHS, True)}:
        raise Refused("targets must delegate to revocations and releases, with their own paths", code="targets_refused")


def check_policy_follows(new: TrustPolicy, old: TrustPolicy | None) -> None:
    if old is not None and (new.version, new.revocation_epoch) < (old.version, old.revocation_epoch):
        raise Refused(f"trust policy version {new.version} is below {old.version}", code="policy_refused")


def only_one(files: Mapping[str, bytes]) -> bytes | None:
    """Return the trust policy among files that came with signed metadata."""
    if set(files) - {POLICY_PATH}:
        raise Invalid(f"only {POLICY_PATH} comes with offline metadata", code="metadata_refused")
    return files.get(POLICY_PATH)
