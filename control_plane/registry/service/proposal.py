"""Propose what the offline keys shall sign next: another key for a role, a renewal, another trust policy."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import canonical_json
from agents.protocol.v1.trust import TrustKey, TrustPolicy
from control_plane.kit.errors import Invalid, Refused
from control_plane.kit.signing import KeyEntry, file_entry, load_signer
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import check_policy_follows
from control_plane.registry.service.ceremony import Base, Proposal, base_of, refuse_second, write_pending
from control_plane.registry.service.keymaking import ROLES
from control_plane.registry.service.offline import parse_policy


def check_rotation(folder: Path, role: str) -> None:
    """Refuse, before any key is made, what cannot be proposed."""
    if role not in ROLES:
        raise Invalid(f"there is no role {role!r}; there are {', '.join(ROLES)}", code="role_unknown")
    base_of(folder)
    refuse_second(folder)


def new_key(folder: Path, role: str) -> KeyEntry:
    """Make the next key file of a role: online/gate-2.pem after online/gate.pem."""
    place = "offline" if role in tuf.OFFLINE else "online"
    number = 2
    while (folder / place / f"{role}-{number}.pem").exists():
        number += 1
    load_signer(folder / place, f"{role}-{number}")
    return file_entry(folder, f"{place}/{role}-{number}")


def propose_rotation(
    folder: Path,
    role: str,
    entry: KeyEntry,
    now: datetime,
    *,
    drop: str | None = None,
    keep_old: bool = False,
    director_days: float = 30.0,
) -> list[str]:
    """Propose that a new key takes a role over; return the roles whose metadata must be signed offline.

    `drop`: the id of the key that goes, if the role has several. `keep_old`: for gate, trainer and director, what the
    old key signed goes on counting.
    """
    check_rotation(folder, role)
    base = base_of(folder)
    made: dict[str, Metadata[Any]] = {}
    policy = base.policy_data
    if role in tuf.TOP:
        made["root"] = Metadata(_root_with(base.root.signed, role, entry, drop, now))
        if role == "targets":
            made["targets"] = Metadata(_targets_after(base, now, policy))
    elif role in tuf.DELEGATED:
        made["targets"] = Metadata(_targets_with(base, role, entry, drop, now))
    else:
        changed = _policy_with(base.policy, role, entry, now, keep_old=keep_old, days=director_days)
        policy = canonical_json(changed.model_dump(mode="json", by_alias=True))
        made["targets"] = Metadata(_targets_after(base, now, policy))
    write_pending(folder, Proposal(made, policy, base_of(folder).root, (role, entry)))
    return list(made)


def propose_renewal(folder: Path, roles: Sequence[str], now: datetime) -> list[str]:
    """Propose the same content with a new version and expiry, for root, targets or both."""
    if not roles or set(roles) - set(tuf.OFFLINE):
        raise Invalid("only root and targets are renewed offline; the worker renews all others", code="role_unknown")
    base = base_of(folder)
    refuse_second(folder)
    made: dict[str, Metadata[Any]] = {}
    if "root" in roles:
        root = base.root.signed
        root.version, root.expires = root.version + 1, _end("root", now)
        made["root"] = Metadata(root)
    if "targets" in roles:
        made["targets"] = Metadata(_targets_after(base, now, base.policy_data))
    write_pending(folder, Proposal(made, base.policy_data, base_of(folder).root))
    return list(made)


def propose_policy(folder: Path, data: bytes, now: datetime) -> list[str]:
    """Propose another trust policy; its version must be higher."""
    base = base_of(folder)
    refuse_second(folder)
    policy = parse_policy(data)
    if policy.version <= base.policy.version:
        raise Refused(f"policy version {policy.version} is not above {base.policy.version}", code="policy_refused")
    check_policy_follows(policy, base.policy)
    made = {"targets": Metadata(_targets_after(base, now, data))}
    write_pending(folder, Proposal(made, data, base.root))
    return ["targets"]


def _end(role: str, now: datetime) -> datetime:
    return (now + tuf.LIFETIMES[role]).replace(microsecond=0)


def _root_with(root: Root, role: str, entry: KeyEntry, drop: str | None, now: datetime) -> Root:
    _swap(root, role, entry, drop)
    root.version, root.expires = root.version + 1, _end("root", now)
    return root


def _swap(delegator: Root | Targets, role: str, entry: KeyEntry, drop: str | None) -> None:
    """Let one key take another's place, so that the threshold can still be met."""
    held = list(delegator.get_delegated_role(role).keyids)
    if drop is None and len(held) > 1:
        names = ", ".join(each[:12] for each in held)
        raise Invalid(f"{role} has several keys ({names}): say which goes", code="key_ambiguous")
    matching = [each for each in held if each.startswith(drop or "")]
    if len(matching) != 1:
        raise Invalid(f"{role} has no single key {drop!r}", code="key_ambiguous")
    if entry.keyid in held:
        raise Invalid(f"{role} has the key {entry.keyid[:12]} already", code="key_ambiguous")
    delegator.revoke_key(matching[0], role)
    delegator.add_key(entry.public, role)


def _targets_after(base: Base, now: datetime, policy: bytes) -> Targets:
    handed_on = base.targets.signed.delegations
    if handed_on is None:
        raise Refused("the targets signed last delegate nothing", code="targets_refused")
    return tuf.make_targets(base.targets.signed.version + 1, now, policy, handed_on)


def _targets_with(base: Base, role: str, entry: KeyEntry, drop: str | None, now: datetime) -> Targets:
    made = _targets_after(base, now, base.policy_data)
    _swap(made, role, entry, drop)
    return made


def _policy_with(
    policy: TrustPolicy, role: str, entry: KeyEntry, now: datetime, *, keep_old: bool, days: float
) -> TrustPolicy:
    """Return the next policy, in which a key stands for director, gate or trainer."""
    field_name = {"trainer": "provenance"}.get(role, role)
    held: Any = getattr(policy, field_name)
    old: tuple[str, ...] = held if role == "director" else held.keys
    ids = (*(old if keep_old else ()), entry.keyid)
    ends = now + timedelta(days=days) if role == "director" else None
    keys = {name: key for name, key in policy.keys.items() if keep_old or name not in old}
    plain = policy.model_dump(by_alias=True) | {"version": policy.version + 1}
    plain["keys"] = keys | {entry.keyid: TrustKey(public=entry.public_text, owner=role, not_after=ends)}
    plain[field_name] = ids if role == "director" else plain[field_name] | {"keys": ids}
    try:
        return TrustPolicy.model_validate(plain)
    except ValueError as error:
        raise Invalid(f"no policy can be made of this: {error}", code="policy_refused") from error
