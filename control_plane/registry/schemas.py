"""The registry as the API takes and gives it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, Field, StringConstraints

from agents.protocol.v1 import TensorSpec
from control_plane.kit.pages import Schema

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
EventKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class FileRef(Schema):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Tolerance(Schema):
    rtol: float = Field(ge=0)
    atol: float = Field(ge=0)


class Contract(Schema):
    inputs: list[TensorSpec] = Field(min_length=1, max_length=32)
    outputs: list[TensorSpec] = Field(min_length=1, max_length=32)
    golden: Tolerance


class EventRule(Schema):
    """How grave a kind of field event is, and whether it counts as an incident."""

    severity: Literal["gravest", "grave", "minor"]
    incident: bool


class ModelPut(Schema):
    """`exposure` is what rates are per; `gate` is the policy a version must pass, `rollout` the default plan."""

    title: str = Field(max_length=200)
    contract: Contract
    events: dict[EventKind, EventRule] = Field(max_length=32)
    exposure: Literal["distance_m", "duration_s"]
    gate: dict[str, Any]
    rollout: dict[str, Any] = Field(default_factory=dict)


class ModelItem(ModelPut):
    name: str
    created_at: datetime


class VersionCreate(Schema):
    """`files` is the bundle by path, `checkpoint` what the next training starts from (never sent to devices)."""

    files: dict[str, FileRef] = Field(max_length=64)
    checkpoint: dict[str, FileRef] = Field(default_factory=dict, max_length=64)
    parent: Sha256 | None = None
    dataset: Sha256 | None = None
    training: str | None = Field(default=None, max_length=200)
    label: str = Field(default="", max_length=200)


class VersionItem(Schema):
    id: str
    model: str
    version: int
    content_digest: str
    content: dict[str, Any]
    checkpoint: dict[str, FileRef]
    parent: str | None
    dataset: str | None
    training: str | None
    label: str
    card: dict[str, Any]
    created_by: str
    created_at: datetime


class ReleaseCreate(Schema):
    content_digest: Sha256
    device_classes: list[Name] = Field(min_length=1, max_length=64)
    reason: str = Field(default="", max_length=500)


class ReleaseItem(Schema):
    """`signed_by`: whose keys have approved it, which is what devices count; `waits_for` says what they still miss.

    `approved_by` are the answers to the question of `review_state`, which is asked of no way back: whoever signs for a
    release signs for its way back with it.
    """

    digest: str
    model: str
    version: int
    counter: int
    content_digest: str
    manifest_bytes: int
    device_classes: list[str]
    reason: str
    approvals_needed: int
    approved_by: list[str]
    review_state: str | None
    signed_by: list[str] = Field(default_factory=list)
    way_back_of: str | None = None
    published_revision: int | None = None
    waits_for: str = ""
    created_by: str
    created_at: datetime


class AttestationCreate(Schema):
    """`envelope` is the text of a DSSE envelope around an in-toto statement; its bytes are kept as they are."""

    envelope: str = Field(max_length=1 << 20)


class AttestationItem(Schema):
    sha256: str
    subject: str
    predicate_type: str
    owners: list[str]
    keyids: list[str]
    envelope: str
    policy_version: int
    received_by: str
    received_at: datetime


class ArtifactCreate(Schema):
    """Announce a file before sending it."""

    sha256: Sha256
    size_bytes: int = Field(ge=0, le=64 << 30)


class ArtifactTicket(Schema):
    """`upload_url` is null if the file is there already; relative ones are relative to this server."""

    sha256: str
    have: bool
    upload_url: str | None
    download_url: str | None


class PartsCreate(Schema):
    """Announce a file that comes in parts, all of `part_bytes` but the last one."""

    size_bytes: int = Field(gt=0, le=64 << 30)
    part_bytes: int = Field(ge=5 << 20, le=1 << 30)


class PartTicket(Schema):
    """One part that is not there: the file's bytes from `start` on, `size_bytes` of them."""

    number: int
    start: int
    size_bytes: int
    upload_url: str


class PartsTicket(Schema):
    """What of a file is there. `parts` are the first of those that are not: send them and ask again.

    `have`: all of it is there and checked. With nothing missing and `have` false it waits to be joined.
    """

    sha256: str
    have: bool
    size_bytes: int
    missing: int
    missing_bytes: int
    parts: list[PartTicket]


class RoleItem(Schema):
    """One role of the TUF repository. `keys_known_here`: how many of its keys this installation can name."""

    role: str
    keyids: list[str]
    threshold: int
    keys_known_here: int
    version: int
    published_at: datetime
    expires_at: datetime


class AlarmItem(Schema):
    subject: str
    because: str
    since: datetime


class TrustItem(Schema):
    """`ready` is false until `fleetloop keys init`; `revision` is the version of the published timestamp."""

    ready: bool
    revision: int
    roles: list[RoleItem]
    alarms: list[AlarmItem]


class OfflineCreate(Schema):
    """Metadata signed offline, as base64 of the exact bytes; roots in order; the trust policy that `targets` lists."""

    roots: list[Base64Bytes] = Field(default_factory=list, max_length=256)
    targets: Base64Bytes | None = Field(default=None, max_length=8 << 20)
    policy: Base64Bytes | None = Field(default=None, max_length=1 << 20)


class Revision(Schema):
    revision: int


class RevocationCreate(Schema):
    """What must not run, and keys whose signatures no longer count."""

    content_digests: list[Sha256] = Field(default_factory=list, max_length=1000)
    release_digests: list[Sha256] = Field(default_factory=list, max_length=1000)
    keys: list[Sha256] = Field(default_factory=list, max_length=100)
    reason: str = Field(min_length=1, max_length=500)

    def lists(self) -> dict[str, list[str]]:
        return {"content_digests": self.content_digests, "release_digests": self.release_digests, "keys": self.keys}


class RevocationItem(Schema):
    """All revocations that are published."""

    revision: int
    epoch: int
    content_digests: list[str]
    release_digests: list[str]
    keys: list[str]
