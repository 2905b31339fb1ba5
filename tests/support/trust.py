"""Keys, policies and attestations for tests; every signature is a real one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.protocol.v1 import Envelope, digest_of, key_id, seal_envelope
from agents.protocol.v1.release import BundleFile, ContentManifest, FileRole, ReleaseManifest
from agents.protocol.v1.statement import (
    APPROVAL,
    PROVENANCE,
    STATEMENT_PAYLOAD,
    TEST_RESULT,
    Approval,
    Predicate,
    Provenance,
    Result,
    TestResult,
    statement_bytes,
)
from agents.protocol.v1.trust import ApprovalRequirement, GateRequirement, Requirement, TrustKey, TrustPolicy

MEDIA = ("application/vnd.onnx", "application/json", "application/vnd.safetensors")
NOW = datetime.now(UTC).replace(microsecond=0)  # devices judge approvals by the real clock
CLASS = "orin-nx-16"


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def id_of(key: Ed25519PrivateKey) -> str:
    return key_id(key.public_key())


@dataclass
class Ring:
    """One key per role, three people."""

    director: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    trainer: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    gate: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    people: dict[str, Ed25519PrivateKey] = field(
        default_factory=lambda: {name: Ed25519PrivateKey.generate() for name in ("ada", "bo", "cy")}
    )

    def policy(self, **changes: Any) -> TrustPolicy:
        owners = {"director": self.director, "trainer": self.trainer, "gate": self.gate, **self.people}
        values: dict[str, Any] = {
            "version": 1,
            "keys": {id_of(key): TrustKey(public=public_hex(key), owner=name) for name, key in owners.items()},
            "director": (id_of(self.director),),
            "provenance": Requirement(keys=(id_of(self.trainer),)),
            "gate": GateRequirement(keys=(id_of(self.gate),)),
            "approval": ApprovalRequirement(
                keys=tuple(id_of(key) for key in self.people.values()), threshold=2, warned_threshold=3
            ),
            "media_types": MEDIA,
        }
        return TrustPolicy(**(values | changes))


def release(counter: int = 1, *, classes: tuple[str, ...] = (CLASS,), seed: str = "a") -> ReleaseManifest:
    file = BundleFile(path="model.onnx", size_bytes=3, sha256=digest_of(seed), media_type=MEDIA[0], role=FileRole.MODEL)
    content = ContentManifest(model="driver", files=(file,))
    return ReleaseManifest(
        model="driver",
        version=1,
        counter=counter,
        device_classes=classes,
        content_digest=digest_of(content.model_dump(mode="json", by_alias=True)),
        content=content,
    )


def release_digest(manifest: ReleaseManifest) -> str:
    return digest_of(manifest.model_dump(mode="json", by_alias=True))


def provenance(at: datetime = NOW) -> Provenance:
    return Provenance.model_validate(
        {
            "buildDefinition": {
                "buildType": "urn:fleetloop:build:training:v1",
                "externalParameters": {"recipe": "standard"},
                "resolvedDependencies": [{"name": "dataset", "digest": {"sha256": digest_of("dataset")}}],
            },
            "runDetails": {"builder": {"id": "local"}, "metadata": {"invocationId": "job-1", "finishedOn": at}},
        }
    )


def gate_result(
    result: Result = Result.PASSED, *, device_class: str = CLASS, suite: str = "", **names: Any
) -> TestResult:
    suite = suite or digest_of("suite")
    tests: dict[str, Any] = {"passedTests": (f"{device_class}/nominal non_inferior",), **names}
    return TestResult.model_validate(
        {"result": result, "configuration": [{"name": "suite:nominal", "digest": {"sha256": suite}}],
         "decidedAt": NOW, **tests}
    )  # fmt: skip


def approval(manifest: ReleaseManifest, name: str, **changes: Any) -> Approval:
    values: dict[str, Any] = {
        "release_digest": release_digest(manifest),
        "counter": manifest.counter,
        "model": manifest.model,
        "version": manifest.version,
        "device_classes": manifest.device_classes,
        "widest_stage": 1.0,
        "approver": name,
        "approved_at": NOW,
        "not_after": NOW + timedelta(days=30),
    }
    return Approval(**(values | changes))


def sealed(kind: str, digest: str, predicate: Predicate, *keys: Ed25519PrivateKey) -> Envelope:
    return seal_envelope(STATEMENT_PAYLOAD, statement_bytes("driver", digest, kind, predicate), keys)


def vouched(
    ring: Ring, manifest: ReleaseManifest, people: tuple[str, ...] = ("ada", "bo"), *, device_class: str = CLASS
) -> list[Envelope]:
    """Return everything that a release needs."""
    return [
        sealed(PROVENANCE, manifest.content_digest, provenance(), ring.trainer),
        sealed(TEST_RESULT, manifest.content_digest, gate_result(device_class=device_class), ring.gate),
        *(approved(ring, manifest, name) for name in people),
    ]


def approved(ring: Ring, manifest: ReleaseManifest, name: str, **changes: Any) -> Envelope:
    return sealed(APPROVAL, release_digest(manifest), approval(manifest, name, **changes), ring.people[name])
