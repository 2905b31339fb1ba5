"""The trust policy and the revocations: TUF targets that say whose word counts for what.

The policy is signed by the offline targets keys, revocations by a key of their own that can only take away.
"""

from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from agents.protocol.v1.canonical import strict_json
from agents.protocol.v1.dsse import key_id
from agents.protocol.v1.release import Frozen, Name, Sha256

POLICY_PATH: Final = "policy/trust-policy.json"
REVOCATIONS_PATH: Final = "policy/revocations.json"
POLICY_BYTES: Final = 256 << 10
REVOCATIONS_BYTES: Final = 4 << 20

KeyId = Sha256
_P: Final = 2**255 - 19
# y coordinates of the points of small order (RFC 7748 §6.1 names the danger): such a key accepts forged signatures.
_LOW_ORDER_Y: Final = frozenset(
    {
        0, 1, _P - 1, _P, _P + 1,
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    }
)  # fmt: skip


class TrustKey(Frozen):
    """An ed25519 public key. `owner` names who holds it: two keys of one owner count as one."""

    public: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    owner: str = Field(min_length=1, max_length=100)
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None

    def load(self) -> Ed25519PublicKey:
        """Return the key.

        Raises:
            ValueError: the point has small order.
        """
        raw = bytes.fromhex(self.public)
        if int.from_bytes(raw, "little") & ((1 << 255) - 1) in _LOW_ORDER_Y:
            raise ValueError("an ed25519 key of small order proves nothing")
        return Ed25519PublicKey.from_public_bytes(raw)


class Requirement(Frozen):
    """`threshold` distinct owners among `keys`; older than `max_age_s` does not count."""

    keys: tuple[KeyId, ...] = Field(min_length=1, max_length=64)
    threshold: int = Field(default=1, ge=1, le=16)
    max_age_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class GateRequirement(Requirement):
    """`suites`: where a suite's name stands here, the gate must have used one of these digests, and used it at all."""

    suites: dict[Name, tuple[Sha256, ...]] = Field(default_factory=dict, max_length=64)


class ApprovalRequirement(Requirement):
    """`warned_threshold`: how many must insist on a release whose gate result is WARNED; None: nobody may."""

    warned_threshold: int | None = Field(default=None, ge=1, le=16)


class TrustPolicy(Frozen):
    """Whose word counts for what. A key serves one purpose only."""

    schema_: Literal["fleetloop.trust-policy/v1"] = Field(default="fleetloop.trust-policy/v1", alias="schema")
    version: int = Field(ge=1)
    revocation_epoch: int = Field(default=0, ge=0)
    keys: dict[KeyId, TrustKey] = Field(min_length=1, max_length=256)
    director: tuple[KeyId, ...] = Field(min_length=1, max_length=8)
    provenance: Requirement
    gate: GateRequirement
    approval: ApprovalRequirement
    media_types: tuple[Annotated[str, StringConstraints(max_length=100)], ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _sound(self) -> "TrustPolicy":
        for name, key in self.keys.items():
            # The name follows from the material, so one key cannot stand under two names.
            if key_id(key.load()) != name:
                raise ValueError(f"key {name[:12]} is named after another key")
        purposes = (self.director, self.provenance.keys, self.gate.keys, self.approval.keys)
        used = [each for keys in purposes for each in keys]
        if len(set(used)) != len(used):
            raise ValueError("a key serves two purposes, or stands twice in one")
        missing = set(used) - set(self.keys)
        if missing:
            raise ValueError(f"key {min(missing)[:12]} is used and not given")
        for requirement in (self.provenance, self.gate, self.approval):
            if len({self.keys[each].owner for each in requirement.keys}) < requirement.threshold:
                raise ValueError("a threshold is higher than the number of key owners")
        return self

    def trusted(self, keys: tuple[KeyId, ...]) -> dict[str, Ed25519PublicKey]:
        return {name: self.keys[name].load() for name in keys}


class Revocations(Frozen):
    """What must not run, and whose signatures no longer count. Devices add up what they see within one `epoch`."""

    schema_: Literal["fleetloop.revocations/v1"] = Field(default="fleetloop.revocations/v1", alias="schema")
    epoch: int = Field(default=0, ge=0)
    content_digests: tuple[Sha256, ...] = Field(default=(), max_length=20_000)
    release_digests: tuple[Sha256, ...] = Field(default=(), max_length=20_000)
    keys: tuple[KeyId, ...] = Field(default=(), max_length=1000)

    @property
    def digests(self) -> frozenset[str]:
        return frozenset((*self.content_digests, *self.release_digests))


def read_policy(data: bytes) -> TrustPolicy:
    """Raises ValueError for anything that is not exactly a trust policy."""
    return TrustPolicy.model_validate(strict_json(data, POLICY_BYTES))


def read_revocations(data: bytes) -> Revocations:
    """Raises ValueError for anything that is not exactly a list of revocations."""
    return Revocations.model_validate(strict_json(data, REVOCATIONS_BYTES))


def release_path(release_digest: str) -> str:
    return f"releases/{release_digest}.json"


def attestations_path(release_digest: str) -> str:
    return f"attestations/{release_digest}.intoto.jsonl"
