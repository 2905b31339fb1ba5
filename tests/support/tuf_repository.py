"""A small, real TUF repository in memory, with every key at hand: what an honest server has, and what thieves use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH, Revocations, TrustPolicy

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "revocations")
COMPACT = JSONSerializer(compact=True)


@dataclass
class TufRepository:
    """`files` maps metadata names to bytes as a server hands them out, `targets` what each role lists."""

    signers: dict[str, list[CryptoSigner]] = field(
        default_factory=lambda: {role: [CryptoSigner.generate_ed25519()] for role in ROLES}
    )
    targets: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {"targets": {}, "releases": {}, "revocations": {}}
    )
    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    life: dict[str, timedelta] = field(default_factory=lambda: dict.fromkeys(ROLES, timedelta(days=30)))
    now: datetime | None = None

    def show(self, policy: TrustPolicy, revocations: Revocations | None, releases: Mapping[str, bytes]) -> None:
        """Say what is listed, and publish it."""
        self.targets["targets"][POLICY_PATH] = policy.model_dump_json(by_alias=True).encode()
        if revocations is not None:
            self.targets["revocations"][REVOCATIONS_PATH] = revocations.model_dump_json(by_alias=True).encode()
        self.targets["releases"] = dict(releases)
        self.publish()

    def publish(self, *only: str) -> None:
        """Sign what is listed; with roles given, only those, snapshot and timestamp."""
        if "1.root.json" not in self.files:
            self.publish_root()
        for role in only or ("targets", "releases", "revocations"):
            self._put(role, self._targets(role))
        meta = {f"{role}.json": MetaFile(self.versions[role]) for role in ("targets", "releases", "revocations")}
        self._put("snapshot", Snapshot(self._next("snapshot"), expires=self._ends("snapshot"), meta=meta))
        stamp = Timestamp(
            self._next("timestamp"),
            expires=self._ends("timestamp"),
            snapshot_meta=MetaFile(self.versions["snapshot"]),
        )
        self._put("timestamp", stamp)

    def publish_root(self, *also_by: CryptoSigner) -> None:
        """Make the next root name the present keys; `also_by` are the old ones it must be signed by too."""
        root = Root(self._next("root"), expires=self._ends("root"), consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.roles[role].threshold = len(self.signers[role]) if role == "root" else 1
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
        self._put("root", root, *also_by)

    def metadata(self, name: str) -> bytes | None:
        return self.files.get(name)

    def blobs(self) -> list[bytes]:
        return [data for listed in self.targets.values() for data in listed.values()]

    @property
    def root(self) -> bytes:
        """The first root: what a device is born with."""
        return self.files["1.root.json"]

    def _targets(self, role: str) -> Targets:
        made = Targets(self._next(role), expires=self._ends(role))
        for path, data in self.targets[role].items():
            made.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        if role == "targets":
            made.delegations = self._delegations()
        return made

    def _delegations(self) -> Delegations:
        keys: dict[str, Key] = {}
        roles = {}
        paths = {"releases": ["releases/*", "attestations/*"], "revocations": [REVOCATIONS_PATH]}
        for role, patterns in paths.items():
            ids = [signer.public_key.keyid for signer in self.signers[role]]
            keys.update({signer.public_key.keyid: signer.public_key for signer in self.signers[role]})
            roles[role] = DelegatedRole(role, ids, 1, terminating=True, paths=patterns)
        return Delegations(keys, roles)

    def _put(self, role: str, signed: Root | Targets | Snapshot | Timestamp, *also_by: CryptoSigner) -> None:
        metadata = Metadata(signed)
        for signer in (*self.signers[role], *also_by):
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.files[name] = metadata.to_bytes(COMPACT)

    def _next(self, role: str) -> int:
        self.versions[role] += 1
        return self.versions[role]

    def _ends(self, role: str) -> datetime:
        return (self.now or datetime.now(UTC)).replace(microsecond=0) + self.life[role]
