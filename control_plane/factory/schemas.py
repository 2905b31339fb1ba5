"""Jobs, clusters and the ledger as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from control_plane.factory.domain import JobState, Outcome
from control_plane.kit.pages import Schema

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$")]
FilePath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){0,4}$", max_length=200),
]


class FileRef(Schema):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class ClusterPut(Schema):
    """`usd_per_hour` and `watts` are estimates the ledger multiplies with."""

    backend: Slug
    usd_per_hour: float = Field(ge=0)
    watts: float = Field(ge=0)
    note: str = Field(default="", max_length=500)


class ClusterItem(ClusterPut):
    name: str


class JobSpec(Schema):
    """What to run: a command, its parameters, and its inputs by path and content."""

    command: list[str] = Field(min_length=1, max_length=64)
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[FilePath, FileRef] = Field(default_factory=dict, max_length=5000)
    timeout_s: float = Field(gt=0, le=7 * 86400)
    env: dict[str, str] = Field(default_factory=dict, max_length=32)
    image: str | None = None
    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)


class JobCreate(Schema):
    """`key` is the job's identity: derive it from a hash of everything that changes its outputs."""

    key: Slug
    kind: Slug
    cluster: Slug = "local"
    run_id: str | None = None
    subject: str = Field(default="", max_length=200)
    spec: JobSpec


class JobItem(Schema):
    key: str
    kind: str
    cluster: str
    run_id: str | None
    subject: str
    spec: JobSpec
    state: JobState
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: float
    note: str
    outputs: dict[str, FileRef] | None
    failure: str | None
    wall_s: float
    cpu_s: float
    gpu_s: float
    usd: float
    energy_j: float
    energy_is_estimate: bool


class AttemptCreate(Schema):
    """`holder` names the wrapper that will run the job; its lease must be renewed."""

    holder: Slug
    lease_s: float = Field(default=30, gt=0, le=3600)


class AttemptRenew(Schema):
    attempt: int
    holder: Slug
    lease_s: float = Field(default=30, gt=0, le=3600)
    progress: float = Field(default=0, ge=0, le=1)
    note: str = Field(default="", max_length=500)


class AttemptFinish(Schema):
    attempt: int
    holder: Slug
    outcome: Outcome
    outputs: dict[FilePath, FileRef] | None = None
    failure: str | None = Field(default=None, max_length=4000)
    wall_s: float = Field(ge=0)
    cpu_s: float = Field(ge=0)
    gpu_s: float = Field(default=0, ge=0)
    energy_j: float | None = Field(default=None, ge=0)


class LedgerLine(Schema):
    """Sums over jobs; `energy_is_estimate` is true if any of them was not measured."""

    name: str
    jobs: int
    wall_s: float
    cpu_s: float
    usd: float
    energy_j: float
    energy_is_estimate: bool


class Ledger(Schema):
    by: str
    lines: list[LedgerLine]
