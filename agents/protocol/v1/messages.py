"""The messages of `/device/v1/...`.

| route | request | answer |
|---|---|---|
| POST enrol | EnrolRequest | EnrolReply |
| POST renew | RenewRequest | RenewReply |
| GET ca | | certificates (PEM) of the device authority |
| POST check-in | CheckIn | CheckInReply |
| POST reports | Envelope of an InstallReport | ReportReply |
| POST telemetry | TelemetryBatch | TelemetryReply |
| POST recordings | RecordingAnnounce | RecordingReply |
| POST recordings/SHA256/complete | empty | RecordingReply |
| GET blobs/sha256/SHA256 | (ranges) | bytes |
"""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field, StringConstraints

from agents.protocol.v1.dsse import Envelope
from agents.protocol.v1.release import Frozen, Name, Sha256

LIMITS: Final = {
    "body_bytes": 1 << 20,
    "check_in_bytes": 64 << 10,
    "batch_items": 1000,
    "recording_bytes": 64 << 20,
    "recording_decoded_bytes": 256 << 20,
}
"""What the server reads at most; a device keeps below them."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Labels = Annotated[dict[Name, Annotated[str, StringConstraints(max_length=100)]], Field(max_length=32)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=-100, le=300, allow_inf_nan=False)]


class EnrolRequest(Frozen):
    """`public_key_pem` is a P-256 SubjectPublicKeyInfo; `proof` signs `enrol_proof(token, pem)` with its key."""

    token: str = Field(min_length=16, max_length=128)
    public_key_pem: str = Field(max_length=1000)
    proof: str = Field(max_length=256)
    serial: Identifier
    device_class: Name
    site: Name
    labels: Labels = Field(default_factory=dict)
    agent_version: str = Field(max_length=40)
    csr_pem: str | None = Field(default=None, max_length=4000)


class EnrolReply(Frozen):
    """`director_keys` are raw ed25519 public keys in hex; the certificate is there if a `csr_pem` came."""

    device_id: Identifier
    director_keys: tuple[str, ...]
    certificate_pem: str | None = None
    ca_pem: str | None = Field(default=None, max_length=32_000)
    trust_root: str | None = Field(default=None, max_length=512_000)
    next_check_in_s: float


class RenewRequest(Frozen):
    """Signed with the device's present key; the request for a fresh key is signed with that key as well."""

    csr_pem: str = Field(max_length=4000)


class RenewReply(Frozen):
    certificate_pem: str = Field(max_length=8000)
    ca_pem: str = Field(max_length=32_000)


class DeploymentPhase(str, Enum):
    IDLE = "idle"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    QUALIFYING = "qualifying"
    SHADOW = "shadow"
    ARMED = "armed"
    TRIAL = "trial"
    COMMITTED = "committed"
    REVERTED = "reverted"
    REFUSED = "refused"


class ActiveRelease(Frozen):
    release_digest: Sha256
    content_digest: Sha256
    counter: int = Field(ge=1)


class DeploymentReport(Frozen):
    """How far the device is with the release it was last told to run, and why it is not further."""

    release_digest: Sha256
    counter: int = Field(ge=1)
    rollout_id: str | None = Field(default=None, max_length=64)
    phase: DeploymentPhase
    reason: Identifier | None = None
    detail: str = Field(default="", max_length=500)
    qualification: dict[str, Amount] = Field(default_factory=dict, max_length=32)


class InstallReport(Frozen):
    """What a device swears to about one deployment; signed by its key in a DSSE envelope (`REPORT_PAYLOAD`)."""

    device_id: Identifier
    report_id: Identifier
    at: AwareDatetime
    agent_version: str = Field(max_length=40)
    deployment: DeploymentReport
    active: ActiveRelease | None = None


class ReportReply(Frozen):
    """The statement is durable; `envelope_sha256` names its exact bytes."""

    envelope_sha256: Sha256


class CheckIn(Frozen):
    """`seq` grows with every check-in of a boot; `boot_id` is new with every start of the agent."""

    boot_id: Identifier
    seq: int = Field(ge=0, le=2**53)
    nonce: str = Field(min_length=16, max_length=64)
    sent_at: AwareDatetime
    agent_version: str = Field(max_length=40)
    active: ActiveRelease | None = None
    deployment: DeploymentReport | None = None
    counter_floor: int = Field(default=0, ge=0)
    trust_revision: int = Field(default=0, ge=0, le=2**53)
    spool: dict[str, Amount] = Field(default_factory=dict, max_length=32)
    platform: dict[str, Any] = Field(default_factory=dict, max_length=64)


class CheckInReply(Frozen):
    manifest: Envelope
    next_check_in_s: float


class ExposureWindow(Frozen):
    """What the device did with one model version in one window; `counts` are field events by kind.

    The last two are null where nothing measures: the hottest zone, and the time the kernel slowed the machine for heat.
    """

    seq: int = Field(ge=0, le=2**53)
    content_digest: Sha256
    started_at: AwareDatetime
    ended_at: AwareDatetime
    distance_m: Amount
    duration_s: Amount
    decisions: Count
    energy_j: Amount | None = None
    counts: dict[Kind, Count] = Field(default_factory=dict, max_length=32)
    latency_p50_ms: Amount
    latency_p99_ms: Amount
    temperature_max_c: Temperature | None = None
    throttled_s: Amount | None = None


class FieldEvent(Frozen):
    seq: int = Field(ge=0, le=2**53)
    event_id: Identifier
    kind: Kind
    content_digest: Sha256
    at: AwareDatetime
    details: dict[str, Any] = Field(default_factory=dict, max_length=64)
    recording_sha256: Sha256 | None = None


class TelemetryBatch(Frozen):
    """Windows and events share one growing `seq` in a `stream_id` that lives as long as the device's spool."""

    stream_id: Identifier
    windows: tuple[ExposureWindow, ...] = Field(default=(), max_length=1000)
    events: tuple[FieldEvent, ...] = Field(default=(), max_length=1000)


class TelemetryReply(Frozen):
    """Everything of the batch up to `acknowledged_seq` is durable; the device may forget it."""

    acknowledged_seq: int
    accepted: int
    duplicates: int
    next_batch_s: float


class RecordingStatement(Frozen):
    """What a device swears to about one recording; signed by its key in a DSSE envelope (`RECORDING_PAYLOAD`)."""

    device_id: Identifier
    sha256: Sha256
    size_bytes: int = Field(ge=1, le=2**40)
    trigger: Kind
    event_id: Identifier | None = None
    content_digest: Sha256
    started_at: AwareDatetime
    ended_at: AwareDatetime


class RecordingAnnounce(Frozen):
    """`signed` holds a RecordingStatement that says the same."""

    sha256: Sha256
    size_bytes: int = Field(ge=1, le=2**40)
    trigger: Kind
    event_id: Identifier | None = None
    content_digest: Sha256
    started_at: AwareDatetime
    ended_at: AwareDatetime
    signed: Envelope | None = None


class RecordingState(str, Enum):
    WANTED = "wanted"
    HAVE = "have"
    DECLINED = "declined"


class RecordingReply(Frozen):
    """WANTED: put the file at `upload_url` (relative to the server or absolute), then POST complete."""

    state: RecordingState
    reason: str = ""
    upload_url: str | None = None
    expires_at: datetime | None = None


def enrol_proof(token: str, public_key_pem: str) -> bytes:
    """Return the bytes whose signature proves that the enrolling device holds the key."""
    return f"fleetloop-enrol-v1\n{token}\n{public_key_pem}".encode()
