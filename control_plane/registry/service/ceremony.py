"""A ceremony: metadata that waits for signatures of offline keys, here or on other machines.

Beside `keys.json`, `signed/` holds every root, the newest targets and the trust policy; `pending/` what has been
proposed and lacks signatures. A server takes `signed/` in by itself (`offline.adopt_signed`).
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import sha256_hex, strict_json
from agents.protocol.v1.trust import POLICY_PATH, TrustPolicy
from control_plane.kit.errors import Conflict, Invalid, NotFound, Refused
from control_plane.kit.signing import KeyEntry, Keyring, public_key_of, read_entry, read_signer, write_durably
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import check_policy_follows, check_root, check_targets
from control_plane.registry.service.offline import SIGNED, parse_policy, versions_in

PENDING: Final = "pending"
POLICY: Final = Path(POLICY_PATH).name
BASE_ROOT: Final = "base-root.json"
NEW_KEY: Final = "new-key.json"
KINDS: Final[Mapping[str, Any]] = {"root": Root, "targets": Targets}
MAX_SMALL_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Base:
    """What stands signed: the newest root and targets, and the policy."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    policy: TrustPolicy
    policy_data: bytes


def base_of(folder: Path) -> Base:
    """Read what stands signed.

    Raises:
        NotFound: `fleetloop keys init` has not been here.
    """
    signed = folder / SIGNED
    roots, targets = versions_in(signed, "root"), versions_in(signed, "targets")
    if not roots or not targets:
        raise NotFound(f"{signed} holds no root; run: fleetloop keys init", code="keys_missing")
    data = (signed / POLICY).read_bytes()
    root, target = tuf.load(Root, roots[-1][1].read_bytes()), tuf.load(Targets, targets[-1][1].read_bytes())
    return Base(root, target, parse_policy(data), data)


def refuse_second(folder: Path) -> None:
    if (folder / PENDING).exists():
        raise Conflict(
            f"{folder / PENDING} holds an unfinished ceremony; finish it or remove that folder", code="ceremony_pending"
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be signed. `key`: (role, entry) of a key that joins `keys.json` once it is."""

    made: Mapping[str, Metadata[Any]]
    policy: bytes
    base_root: Metadata[Root] | None = None
    key: tuple[str, KeyEntry] | None = None


def write_pending(folder: Path, proposal: Proposal) -> None:
    pending = folder / PENDING
    fresh = folder / f".{PENDING}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    for role, metadata in proposal.made.items():
        write_durably(fresh / f"{role}.json", tuf.dump(role, metadata))
    write_durably(fresh / POLICY, proposal.policy)
    if proposal.base_root is not None:
        write_durably(fresh / BASE_ROOT, tuf.dump("root", proposal.base_root))
    if proposal.key is not None:
        plain = {"role": proposal.key[0], "key": proposal.key[1].as_json()}
        write_durably(fresh / NEW_KEY, json.dumps(plain).encode())
    fresh.rename(pending)


@dataclass(frozen=True, slots=True)
class Ceremony:
    """A ceremony's folder as read."""

    root: Root
    base_root: Root | None
    made: Mapping[str, Metadata[Any]]

    def wanted(self, role: str) -> set[str]:
        """Return the ids of the keys that may sign."""
        before = set(self.base_root.roles[role].keyids) if self.base_root is not None and role == "root" else set()
        return before | set(self.root.roles[role].keyids)

    def missing(self, role: str) -> int:
        """Return how many signatures are wanting; 0 means done."""
        metadata = self.made[role]
        payload, signatures = metadata.signed_bytes, metadata.signatures
        if role == "targets":
            one = self.root.get_verification_result("targets", payload, signatures)
            return max(0, one.threshold - len(one.signed))
        both = self.root.get_root_verification_result(self.base_root, payload, signatures)
        return max(0, *(each.threshold - len(each.signed) for each in (both.first, both.second)))


def read_ceremony(folder: Path) -> Ceremony:
    """Read a ceremony's folder, `pending/` or an exported one.

    Raises:
        NotFound: nothing is pending there.
    """
    files = {role: folder / f"{role}.json" for role in KINDS}
    made = {role: tuf.load(KINDS[role], path.read_bytes()) for role, path in files.items() if path.exists()}
    path = folder / BASE_ROOT
    base = tuf.load(Root, path.read_bytes()).signed if path.exists() else None
    root = made["root"].signed if "root" in made else base
    if not made or root is None:
        raise NotFound(f"{folder} holds no ceremony", code="ceremony_missing")
    return Ceremony(root, base, made)


def describe(folder: Path) -> list[str]:
    """Say what would be signed, for the person who holds a key."""
    found = read_ceremony(folder)
    lines = []
    for role, metadata in found.made.items():
        signed = metadata.signed
        lines.append(f"{role} version {signed.version}, until {signed.expires:%Y-%m-%d}")
        before = found.base_root
        if role == "root" and before is not None:
            lines += _changes(before, signed)
    policy = (folder / POLICY).read_bytes()
    if "targets" in found.made:
        listed = found.made["targets"].signed.targets[POLICY_PATH].hashes.get("sha256")
        if listed != sha256_hex(policy):
            raise Refused(f"targets does not list the {POLICY} that lies beside it", code="ceremony_broken")
        lines.append(f"trust policy version {parse_policy(policy).version}, sha256 {listed}")
    return lines


def _changes(before: Root, after: Root) -> list[str]:
    lines = []
    for role in tuf.TOP:
        old, new = before.roles[role], after.roles[role]
        lines += [f"  {role}: key {each[:12]} goes" for each in old.keyids if each not in new.keyids]
        lines += [f"  {role}: key {each[:12]} comes" for each in new.keyids if each not in old.keyids]
        if old.threshold != new.threshold:
            lines.append(f"  {role}: {new.threshold} must sign instead of {old.threshold}")
    return lines


def export(folder: Path, to: Path) -> None:
    """Copy what waits for signatures to a folder that may travel; it holds no secret."""
    read_ceremony(folder / PENDING)
    if to.exists() and any(to.iterdir()):
        raise Conflict(f"{to} is not empty", code="folder_taken")
    shutil.copytree(folder / PENDING, to, dirs_exist_ok=True)


def sign_with_file(ceremony: Path, key_file: Path) -> dict[str, int]:
    """Sign what one key file may sign; return the signatures added by role.

    Raises:
        Refused: this key signs nothing of it.
    """
    signer = read_signer(key_file)
    public = public_key_of(signer.private.public_key())
    found = read_ceremony(ceremony)
    if not any(public.keyid in found.wanted(role) for role in found.made):
        raise Refused(f"{key_file} is none of the keys that may sign this", code="key_not_wanted")
    return _sign(ceremony, found, {public.keyid: CryptoSigner(signer.private, public)})


def sign_here(folder: Path) -> dict[str, int]:
    """Sign with every offline key that this installation can use; return the signatures added by role."""
    keyring, found = Keyring(folder), read_ceremony(folder / PENDING)
    entries = [each for role in tuf.OFFLINE for each in (*keyring.entries(role), *_joining(folder / PENDING, role))]
    usable = [each for each in entries if (path := keyring.path_of(each)) is None or path.exists()]
    return _sign(folder / PENDING, found, {each.keyid: keyring.signer(each) for each in usable})


def _sign(folder: Path, ceremony: Ceremony, signers: Mapping[str, Signer]) -> dict[str, int]:
    added = {}
    for role, metadata in ceremony.made.items():
        fresh = [signers[keyid] for keyid in signers if keyid in ceremony.wanted(role) - set(metadata.signatures)]
        for signer in fresh:
            try:
                metadata.sign(signer, append=True)
            except UnsignedMetadataError as error:
                raise Refused(f"signing {role} failed: {error.__cause__ or error}", code="signing_failed") from error
        write_durably(folder / f"{role}.json", tuf.dump(role, metadata))
        added[role] = len(fresh)
    return added


def take_signatures(folder: Path, exported: Path) -> dict[str, int]:
    """Take the good signatures of an exported folder over; return those added by role.

    Raises:
        Refused: something else was signed there.
    """
    mine, theirs = read_ceremony(folder / PENDING), read_ceremony(exported)
    added = {}
    for role, metadata in mine.made.items():
        other = theirs.made.get(role)
        if other is None or other.signed_bytes != metadata.signed_bytes:
            raise Refused(f"{exported} holds another {role} than the one pending", code="ceremony_differs")
        fresh = (mine.wanted(role) & set(other.signatures)) - set(metadata.signatures)
        good = [keyid for keyid in sorted(fresh) if _good(mine, role, keyid, other)]
        for keyid in good:
            metadata.signatures[keyid] = other.signatures[keyid]
        write_durably(folder / PENDING / f"{role}.json", tuf.dump(role, metadata))
        added[role] = len(good)
    return added


def _good(ceremony: Ceremony, role: str, keyid: str, metadata: Metadata[Any]) -> bool:
    roots = [root for root in (ceremony.root, ceremony.base_root) if root is not None]
    return any(
        keyid in root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).signed for root in roots
    )


def finish(folder: Path, now: datetime) -> bool:
    """Move what is pending to `signed/` once it has all signatures; say whether it had."""
    pending, signed = folder / PENDING, folder / SIGNED
    ceremony = read_ceremony(pending)
    if any(ceremony.missing(role) for role in ceremony.made):
        return False
    base = base_of(folder) if ceremony.base_root is not None else None
    _check(ceremony, base, (pending / POLICY).read_bytes(), now)
    for role in (*tuf.OFFLINE, *tuf.TOP, *tuf.DELEGATED, "director", "gate", "trainer"):
        for entry in _joining(pending, role):
            Keyring(folder).add(role, entry)
    write_durably(signed / POLICY, (pending / POLICY).read_bytes())
    for role, metadata in ceremony.made.items():
        write_durably(signed / f"{metadata.signed.version}.{role}.json", tuf.dump(role, metadata))
    shutil.rmtree(pending)
    return True


def _check(ceremony: Ceremony, base: Base | None, policy: bytes, now: datetime) -> None:
    """Refuse here what every server would refuse."""
    if "root" in ceremony.made:
        check_root(ceremony.made["root"], base.root.signed if base else None, now)
    if "targets" in ceremony.made:
        old = base.targets.signed if base else None
        check_targets(ceremony.made["targets"], ceremony.root, old, policy, now)
        check_policy_follows(parse_policy(policy), base.policy if base else None)


def _joining(pending: Path, role: str) -> tuple[KeyEntry, ...]:
    path = pending / NEW_KEY
    if not path.exists():
        return ()
    try:
        plain = strict_json(path.read_bytes(), MAX_SMALL_BYTES)
        return (read_entry(plain["key"]),) if plain["role"] == role else ()
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path} cannot be read: {error}", code="ceremony_broken") from error
