"""The shape of the TUF repository: which roles there are, who may sign them, and how their metadata is made.

root ── targets (offline: lists policy/trust-policy.json)
  │       ├── revocations   policy/revocations.json
  │       └── releases      releases/*, attestations/*  ── 256 bins by hash of the path (TAP 15)
  ├── snapshot
  └── timestamp
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from agents.protocol.v1 import sha256_hex
from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH
from control_plane.kit.errors import Invalid, Refused

Kind = TypeVar("Kind", Root, Targets, Snapshot, Timestamp)

TOP: Final = ("root", "targets", "snapshot", "timestamp")
OFFLINE: Final = ("root", "targets")
DELEGATED: Final = ("revocations", "releases")
BIN_BITS: Final = 8
BIN_PREFIX: Final = "releases-bin"
RELEASE_PATHS: Final = ("releases/*", "attestations/*")
MAX_METADATA_BYTES: Final = 5_000_000
"""What python-tuf's client reads of a targets role at most, unless told otherwise."""

_BINS: Final = SuccinctRoles([], 1, BIN_BITS, BIN_PREFIX)
BINS: Final = tuple(_BINS.get_roles())

LIFETIMES: Final[Mapping[str, timedelta]] = {
    "root": timedelta(days=730),
    "targets": timedelta(days=365),
    "releases": timedelta(days=90),
    "revocations": timedelta(days=90),
    "snapshot": timedelta(days=14),
    "timestamp": timedelta(hours=72),
}


def lifetime(role: str) -> timedelta:
    return LIFETIMES["releases"] if role in BINS else LIFETIMES[role]


def role_of(path: str) -> str:
    """Return the role that lists a target path.

    Raises:
        Invalid: no online role may list it.
    """
    folder, _, name = path.partition("/")
    if path == REVOCATIONS_PATH:
        return "revocations"
    plain = name.replace(".", "").replace("-", "").replace("_", "")
    if folder not in {"releases", "attestations"} or not (plain.isascii() and plain.isalnum()) or len(name) > 200:
        raise Invalid(f"{path!r} is no path of releases, attestations or revocations", code="target_path_refused")
    return _BINS.get_role_for_target(path)


@dataclass(frozen=True, slots=True)
class Trusted:
    """What says who may sign: the newest root and targets."""

    root: Root
    targets: Targets

    def who(self, role: str) -> Role:
        """Return the keys and threshold of a role."""
        return self.delegator(role).get_delegated_role("releases" if role in BINS else role)

    def delegator(self, role: str) -> Root | Targets:
        return self.root if role in TOP else self.targets

    def verified(self, role: str, metadata: Metadata[Any]) -> bool:
        """Say whether metadata carries enough signatures of today's keys of its role."""
        signer = "releases" if role in BINS else role
        result = self.delegator(role).get_verification_result(signer, metadata.signed_bytes, metadata.signatures)
        return bool(result)


def delegations(revocations: Sequence[Key], releases: Sequence[Key], threshold: int = 1) -> Delegations:
    """Return what the offline targets role hands on."""
    keys = {key.keyid: key for key in (*revocations, *releases)}
    roles = [
        DelegatedRole("revocations", [k.keyid for k in revocations], threshold, True, paths=[REVOCATIONS_PATH]),
        DelegatedRole("releases", [k.keyid for k in releases], threshold, True, paths=list(RELEASE_PATHS)),
    ]
    return Delegations(keys, {role.name: role for role in roles})


def make_root(version: int, now: datetime, keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int]) -> Root:
    known = {key.keyid: key for role in TOP for key in keys[role]}
    roles = {role: Role([key.keyid for key in keys[role]], thresholds.get(role, 1)) for role in TOP}
    return Root(version, None, now + LIFETIMES["root"], known, roles, consistent_snapshot=True)


def make_targets(version: int, now: datetime, policy: bytes, handed_on: Delegations) -> Targets:
    listed = TargetFile(len(policy), {"sha256": sha256_hex(policy)}, POLICY_PATH)
    return Targets(version, None, now + LIFETIMES["targets"], {POLICY_PATH: listed}, handed_on)


def make_releases(version: int, now: datetime, trusted: Trusted) -> Targets:
    """Return the role that only hands its paths on to the bins, which its own keys sign."""
    who = trusted.who("releases")
    keys = {keyid: trusted.targets.get_key(keyid) for keyid in who.keyids}
    bins = SuccinctRoles(list(who.keyids), who.threshold, BIN_BITS, BIN_PREFIX)
    return Targets(version, None, now + lifetime("releases"), {}, Delegations(keys, succinct_roles=bins))


@dataclass(frozen=True, slots=True)
class Listed:
    """One target file."""

    path: str
    sha256: str
    length_bytes: int
    custom: Mapping[str, Any] | None = None


def make_list(role: str, version: int, now: datetime, files: Iterable[Listed]) -> Targets:
    """Return a bin, or the revocations."""
    made = {
        each.path: TargetFile(
            each.length_bytes,
            {"sha256": each.sha256},
            each.path,
            {"custom": dict(each.custom)} if each.custom else None,
        )
        for each in files
    }
    return Targets(version, None, now + lifetime(role), made)


def make_snapshot(version: int, now: datetime, versions: Mapping[str, int]) -> Snapshot:
    """Return the list of which versions belong together."""
    meta = {f"{role}.json": MetaFile(each) for role, each in versions.items() if role not in {"root", *TOP[2:]}}
    return Snapshot(version, None, now + LIFETIMES["snapshot"], meta)


def make_timestamp(version: int, now: datetime, snapshot_version: int, snapshot: bytes) -> Timestamp:
    meta = MetaFile(snapshot_version, len(snapshot), {"sha256": sha256_hex(snapshot)})
    return Timestamp(version, None, now + LIFETIMES["timestamp"], meta)


def seal(
    trusted: Trusted, role: str, signed: Root | Targets | Snapshot | Timestamp, signers: Sequence[Signer]
) -> bytes:
    """Sign metadata and return its bytes.

    Raises:
        Refused: the signatures made do not verify, or there would be more than clients read.
    """
    metadata: Metadata[Any] = Metadata(signed)
    try:
        for signer in signers:
            metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise Refused(f"signing {role} failed: {error.__cause__ or error}", code="signing_failed") from error
    if not trusted.verified(role, metadata):
        raise Refused(f"the signatures made for {role} do not verify", code="signing_failed")
    return dump(role, metadata)


def dump(role: str, metadata: Metadata[Any]) -> bytes:
    data = metadata.to_bytes(JSONSerializer(compact=True))
    if len(data) > MAX_METADATA_BYTES:
        raise Refused(
            f"{role} would have {len(data)} bytes, clients read {MAX_METADATA_BYTES}", code="too_many_targets"
        )
    return data


def load(kind: type[Kind], data: bytes) -> Metadata[Kind]:
    """Read metadata of one kind.

    Raises:
        Invalid: it is not that.
    """
    if len(data) > MAX_METADATA_BYTES:
        raise Invalid(f"metadata has at most {MAX_METADATA_BYTES} bytes", code="metadata_refused")
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise Invalid(f"not TUF metadata: {error.__cause__ or error}", code="metadata_refused") from error
    if not isinstance(metadata.signed, kind):
        raise Invalid(f"this is {metadata.signed.type} metadata, not {kind.type}", code="metadata_refused")
    return metadata
