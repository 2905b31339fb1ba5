"""What a device may be told to run: content manifest, release manifest, director manifest."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
BundlePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\.[A-Za-z0-9_-]{1,40}){0,3}$")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class FileRole(str, Enum):
    MODEL = "model"
    CONTRACT = "contract"
    GOLDEN = "golden"


class TensorSpec(Frozen):
    """One input or output: `shape` has integers and, first, the batch axis as "N"."""

    name: Name
    dtype: Literal["float32", "float16", "int64", "int32", "uint8", "bool"]
    shape: tuple[int | Literal["N"], ...] = Field(min_length=1, max_length=8)
    unit: str = Field(max_length=200)


class BundleFile(Frozen):
    path: BundlePath
    size_bytes: int = Field(ge=0, le=64 << 30)
    sha256: Sha256
    media_type: str = Field(max_length=100)
    role: FileRole


class ContentManifest(Frozen):
    """The files of one model version; the sha256 of its canonical JSON is the *content digest*."""

    schema_: Literal["fleetloop.content/v1"] = Field(default="fleetloop.content/v1", alias="schema")
    model: Name
    files: tuple[BundleFile, ...] = Field(min_length=1, max_length=64)


class ReleaseManifest(Frozen):
    """What may be deployed; the sha256 of its bytes is the *release digest*."""

    schema_: Literal["fleetloop.release/v1"] = Field(default="fleetloop.release/v1", alias="schema")
    model: Name
    version: int = Field(ge=1)
    counter: int = Field(ge=1)
    device_classes: tuple[Name, ...] = Field(min_length=1, max_length=64)
    content_digest: Sha256
    content: ContentManifest


class ReleaseOrder(Frozen):
    """The release a device should run, as the director names it.

    `stage_fraction`: how wide the rollout's stage is that the device belongs to. `safe_state`: what must hold on the
    device before it switches (`safe_state` module); the device's own rule holds as well. `site_free`: whether one more
    device of its site may be out now; null where no budget is set. `shadow_s`: how long the candidate must run beside
    the active model first.
    """

    release_digest: Sha256
    size_bytes: int = Field(ge=1, le=1 << 20)
    counter: int = Field(ge=1)
    rollout_id: str | None = Field(default=None, max_length=64)
    stage_fraction: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    safe_state: str | None = Field(default=None, max_length=1024)
    site_free: bool | None = None
    shadow_s: float = Field(default=0.0, ge=0, le=7 * 86400, allow_inf_nan=False)


class DirectorManifest(Frozen):
    """Signed on demand for one device and one check-in; the device refuses it for any other.

    `revision` is the version of the TUF timestamp that is published: a device that has seen a lower one looks at once.
    """

    schema_: Literal["fleetloop.director/v1"] = Field(default="fleetloop.director/v1", alias="schema")
    device_id: str = Field(max_length=64)
    nonce: str = Field(max_length=64)
    seq: int = Field(ge=0)
    issued_at: datetime
    expires_at: datetime
    revision: int = Field(default=0, ge=0)
    order: ReleaseOrder | None
