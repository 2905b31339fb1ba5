"""Jobs, clusters and the ledger as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.factory.domain import MAX_EXPORTERS, ExporterKind, JobState, Outcome, Policy, read_exporter_url
from control_plane.kit.pages import Schema

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$")]
FilePath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){0,4}$", max_length=200),
]


GpuId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{1,80}$")]


class FileRef(Schema):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class ExporterPut(Schema):
    """Where a cluster's figures can be read: one process's own `/metrics`, and what kind of exporter that is."""

    kind: ExporterKind
    url: Annotated[str, AfterValidator(read_exporter_url)]


class ClusterPut(Schema):
    """What a cluster costs and has. Price and power are estimates that the ledger and placement multiply with.

    `usd_per_hour` is of one job's time without its GPUs, `watts` of one busy core. `cpus`, `gpus` and `memory_bytes`
    are the most one job may have, `slots` how many jobs run at once; what is null is not stated and taken for enough.
    `speed` is relative to where `expected_s` was measured, `queue_s` how long a job waits there on an ordinary day.
    `exporters` that are null stay as they are; `usd_per_kwh` is for energy that the hours do not include.
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
    usd_per_kwh: float = Field(default=0, ge=0, le=1000)
    exporters: list[ExporterPut] | None = Field(default=None, max_length=MAX_EXPORTERS)


class ClusterItem(ClusterPut):
    name: str
    exporters: list[ExporterPut] = Field(default_factory=list)


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
    server's clock and 0 while nothing runs. `asked` counts how often the job was asked for, anew after it had failed;
    attempts are counted from 1 each time. `traceparent` is of what asked for it: no part of `spec`, upon which all that
    ask for a job must agree. What has a default here a control plane of an earlier release does not say.
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
    traceparent: str | None = None
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
    `node` and `gpu_ids` (UUIDs, or numbers on that node) say what it runs on, so that its joules can be measured.
    """

    holder: Slug
    lease_s: float = Field(default=30, gt=0, le=3600)
    asked: int | None = Field(default=None, ge=1)
    attempt: int | None = Field(default=None, ge=1)
    node: str = Field(default="", pattern=r"^[A-Za-z0-9_.:-]{0,200}$")
    gpu_ids: list[GpuId] = Field(default_factory=list, max_length=64)


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


class QuantileItem(Schema):
    """`is_bound`: more than that, for it lies above the highest bound that the exporter counts by."""

    value: float
    is_bound: bool = False


class SpreadItem(Schema):
    """Quantiles in seconds, read from `count` by straight lines within buckets; null where nobody can tell."""

    p50: QuantileItem | None
    p95: QuantileItem | None
    p99: QuantileItem | None
    count: float


class FiguresItem(Schema):
    """What exporters measured in a stretch of time; null is not measured, which is not 0.

    Energy is of GPUs and processors alone. `usd` is the price of the time in which tokens were served.
    """

    gpus: int = 0
    energy_j: float | None = None
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None
    power_w: float | None = None
    gpu_busy: float | None = None
    cpu_busy: float | None = None
    tokens_out: float | None = None
    tokens_per_s: float | None = None
    tokens_per_j: float | None = None
    j_per_token: float | None = None
    usd: float | None = None
    usd_per_million_tokens: float | None = None
    queue_s: float | None = None
    first_token: SpreadItem | None = None
    between_tokens: SpreadItem | None = None
    queue: SpreadItem | None = None
    served_by: ExporterKind | None = None


class ExporterItem(Schema):
    """How an exporter stands. `uptime` is the share of scrapes it answered in the stretch of time asked for."""

    kind: ExporterKind
    url: str
    answered_at: datetime | None
    started_at: datetime | None
    error: str
    dropped: int
    uptime: float | None


class MeterPoint(FiguresItem):
    """The figures of one step of a series."""

    at: datetime


class ClusterMeters(Schema):
    """What a cluster's exporters measured from `starts_at` to `ends_at`, altogether and by steps of `step_s`."""

    cluster: str
    starts_at: datetime
    ends_at: datetime
    step_s: int
    exporters: list[ExporterItem]
    total: FiguresItem
    points: list[MeterPoint]


class UseItem(Schema):
    """What one attempt's GPUs took while it held them. `note` says why nothing was measured, where nothing was.

    `covered` is the share of time and GPUs for which there were figures; the rest is taken to be like it.
    """

    asked: int
    attempt: int
    node: str
    gpu_ids: list[str]
    began_at: datetime
    ended_at: datetime | None
    estimate_j: float
    energy_j: float | None
    busy: float | None
    covered: float | None
    note: str


class JobMeters(Schema):
    job: str
    uses: list[UseItem]
