"""Jobs, clusters and the ledger as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from control_plane.factory.domain import JobState, Outcome, Policy
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
    """What a cluster costs and has. Price and power are estimates that the ledger and placement multiply with.

    `usd_per_hour` is of one job's time without its GPUs, `watts` of one busy core. `cpus`, `gpus` and `memory_bytes`
    are the most one job may have, `slots` how many jobs run at once; what is null is not stated and taken for enough.
    `speed` is relative to where `expected_s` was measured, `queue_s` how long a job waits there on an ordinary day.
    """

    backend: Slug
    usd_per_hour: float = Field(ge=0)
    watts: float = Field(ge=0)
    note: str = Field(default="", max_length=500)
    cpus: float | None = Field(default=None, gt=0)
    gpus: float = Field(default=0, ge=0)
    memory_bytes: int | None = Field(default=None, gt=0, lt=1 << 62)
    slots: int | None = Field(default=None, ge=1, le=1_000_000)
    speed: float = Field(default=1, gt=0, le=1000)
    queue_s: float = Field(default=0, ge=0, le=7 * 86400)
    usd_per_gpu_hour: float = Field(default=0, ge=0)
    gpu_watts: float = Field(default=0, ge=0)


class ClusterItem(ClusterPut):
    name: str


class JobSpec(Schema):
    """What to run: a command, its parameters, and its inputs by path and content.

    A command that begins with `python` runs in the interpreter of the wrapper, wherever that is.
    """

    command: list[str] = Field(min_length=1, max_length=64)
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[FilePath, FileRef] = Field(default_factory=dict, max_length=5000)
    timeout_s: float = Field(gt=0, le=7 * 86400)
    env: dict[str, str] = Field(default_factory=dict, max_length=32)
    image: str | None = None
    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    memory_bytes: int = Field(default=0, ge=0, lt=1 << 62)


class PlaceAsk(Schema):
    """Which clusters may run the job, and what shall be least; without `expected_s` the job's time-out is believed."""

    among: list[Slug] = Field(min_length=1, max_length=32)
    policy: Policy = Policy.COST
    deadline_s: float | None = Field(default=None, gt=0, le=30 * 86400)
    expected_s: float | None = Field(default=None, gt=0, le=7 * 86400)


class JobCreate(Schema):
    """`key` is the job's identity: derive it from a hash of everything that changes its outputs.

    With `place` the control plane chooses the cluster, and keeps with the job why.
    """

    key: Slug
    kind: Slug
    cluster: Slug = "local"
    place: PlaceAsk | None = None
    run_id: str | None = None
    subject: str = Field(default="", max_length=200)
    spec: JobSpec


class WeighedCluster(Schema):
    """What a job was expected to take on a cluster; `misfit` says why it cannot run there, "" if it can."""

    cluster: str
    seconds: float
    usd: float
    energy_j: float
    misfit: str


class JobPlacement(Schema):
    """Where a job was placed, by what policy, and what spoke for and against each cluster."""

    policy: Policy
    because: str
    options: list[WeighedCluster]


class JobExplanation(Schema):
    """Sentences for people, the most important first."""

    subject: str
    lines: list[str]


class JobCancel(Schema):
    reason: str = Field(min_length=1, max_length=500)


class JobItem(Schema):
    """A job as it stands.

    `held_s` is how long its attempt has been held, `silent_s` how long ago the holder's lease ran out, both by the
    server's clock and 0 while nothing runs. `asked` counts how often the job was
    asked for, anew after it had failed; attempts are counted from 1 each time. What has a default here a control plane
    of an earlier release does not say.
    """

    key: str
    kind: str
    cluster: str
    run_id: str | None
    subject: str
    spec: JobSpec
    state: JobState
    asked: int = 1
    attempt: int
    holder: str | None = None
    held_s: float = 0.0
    silent_s: float = 0.0
    cancel_reason: str | None = None
    placement: JobPlacement | None = None
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
    """`holder` names the wrapper that will run the job; its lease must be renewed.

    With `asked` and `attempt` the lease is given only for that attempt, so that what was ordered twice runs once.
    """

    holder: Slug
    lease_s: float = Field(default=30, gt=0, le=3600)
    asked: int | None = Field(default=None, ge=1)
    attempt: int | None = Field(default=None, ge=1)


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
