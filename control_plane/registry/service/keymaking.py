"""Make an installation's keys, its first root and targets, and its first trust policy; no server is needed."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata

from agents.protocol.v1 import canonical_json
from agents.protocol.v1.trust import ApprovalRequirement, GateRequirement, Requirement, TrustKey, TrustPolicy
from control_plane.kit.errors import Conflict, Invalid
from control_plane.kit.signing import Keyring, file_entry, load_signer, read_public
from control_plane.registry.domain import MEDIA_TYPES, tuf
from control_plane.registry.service.ceremony import PENDING, Proposal, finish, sign_here, write_pending
from control_plane.registry.service.offline import SIGNED, versions_in

POLICY_ROLES: Final = ("director", "gate", "trainer")
ONLINE_KEYS: Final = ("releases", "revocations", "snapshot", "timestamp", *POLICY_ROLES)
ROLES: Final = (*tuf.OFFLINE, *ONLINE_KEYS)


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """How many keys of which kind. `approvers`: name to public key in hex; without any, one is made in a file here.

    `warned_threshold`: how many may insist where the gate warned; None: nobody. `approval_threshold` and
    `targets_threshold` None: two, or as many as there are.
    """

    root_keys: int = 3
    root_threshold: int = 2
    targets_keys: int = 2
    targets_threshold: int | None = None
    approvers: Mapping[str, str] = field(default_factory=dict)
    approval_threshold: int | None = None
    warned_threshold: int | None = None
    director_days: float = 30.0


def init_keys(folder: Path, now: datetime, plan: KeyPlan | None = None) -> None:
    """Make keys that are missing, the first root, targets and trust policy; FOLDER is HOME/keys.

    Called again after a crash it finishes with the keys that are there.

    Raises:
        Conflict: they have been made already.
        Invalid: a threshold that cannot be met.
    """
    plan = plan or KeyPlan()
    signed = folder / SIGNED
    if versions_in(signed, "root"):
        raise Conflict(f"{folder} has its keys and its first root already", code="keys_exist")
    _check(plan)
    keyring = _make_keys(folder, plan)
    policy = first_policy(keyring, _approvers(folder, plan), plan, now)
    data = canonical_json(policy.model_dump(mode="json", by_alias=True))
    public = {role: [entry.public for entry in keyring.entries(role)] for role in (*tuf.TOP, *tuf.DELEGATED)}
    thresholds = {"root": plan.root_threshold, "targets": _targets_threshold(plan)}
    root = Metadata(tuf.make_root(1, now, public, thresholds))
    handed_on = tuf.delegations(public["revocations"], public["releases"])
    targets = Metadata(tuf.make_targets(1, now, data, handed_on))
    shutil.rmtree(folder / PENDING, ignore_errors=True)
    write_pending(folder, Proposal({"root": root, "targets": targets}, data))
    sign_here(folder)
    finish(folder, now)


def has_keys(folder: Path) -> bool:
    """Say whether `init_keys` has finished here."""
    return bool(versions_in(folder / SIGNED, "root"))


def _check(plan: KeyPlan) -> None:
    for name, threshold, count in (
        ("root", plan.root_threshold, plan.root_keys),
        ("targets", _targets_threshold(plan), plan.targets_keys),
    ):
        if not 1 <= threshold <= count <= 16:
            raise Invalid(f"{name}: {threshold} of {count} keys makes no sense (1 to 16)", code="threshold_refused")


def _targets_threshold(plan: KeyPlan) -> int:
    return min(2, plan.targets_keys) if plan.targets_threshold is None else plan.targets_threshold


def _make_keys(folder: Path, plan: KeyPlan) -> Keyring:
    names = [("root", f"offline/root-{n}") for n in range(1, plan.root_keys + 1)]
    names += [("targets", f"offline/targets-{n}") for n in range(1, plan.targets_keys + 1)]
    names += [(role, f"online/{role}") for role in ONLINE_KEYS]
    keyring = Keyring(folder)
    for role, name in names:
        where = folder / name
        load_signer(where.parent, where.name)
        keyring.add(role, file_entry(folder, name))
    return keyring


def _approvers(folder: Path, plan: KeyPlan) -> dict[str, str]:
    if plan.approvers:
        return dict(plan.approvers)
    return {"operator": load_signer(folder / "approvers", "operator").public_hex}


def first_policy(keyring: Keyring, approvers: Mapping[str, str], plan: KeyPlan, now: datetime) -> TrustPolicy:
    """Return a policy that asks for the trainer, the gate, and people.

    Raises:
        Invalid: a key is not ed25519, or more approvals are asked for than there are people.
    """
    people = {name: read_public(text) for name, text in approvers.items()}
    keys = {key.keyid: TrustKey(public=key.keyval["public"], owner=name) for name, key in people.items()}
    ends = now + timedelta(days=plan.director_days)
    ids: dict[str, str] = {}
    for role in POLICY_ROLES:
        entry = keyring.entries(role)[-1]
        ids[role] = entry.keyid
        keys[entry.keyid] = TrustKey(
            public=entry.public_text, owner=role, not_after=ends if role == "director" else None
        )
    needed = min(2, len(people)) if plan.approval_threshold is None else plan.approval_threshold
    try:
        return TrustPolicy(
            version=1,
            keys=keys,
            director=(ids["director"],),
            provenance=Requirement(keys=(ids["trainer"],)),
            gate=GateRequirement(keys=(ids["gate"],)),
            approval=ApprovalRequirement(
                keys=tuple(key.keyid for key in people.values()),
                threshold=needed,
                warned_threshold=plan.warned_threshold,
            ),
            media_types=tuple(sorted({kind for kind, _ in MEDIA_TYPES.values()})),
        )
    except ValueError as error:
        raise Invalid(f"no policy can be made of this: {error}", code="policy_refused") from error
