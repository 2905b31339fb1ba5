"""The registry as the API takes and gives it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

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
    created_by: str
    created_at: datetime


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
