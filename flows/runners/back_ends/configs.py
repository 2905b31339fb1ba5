"""What `clusters.yaml` may say of a cluster, one class for each back end, and how each is opened."""

from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from flows.runners.back_ends.interface import BackEnd
from flows.runners.back_ends.kubernetes import ApiSettings, KubernetesBackEnd
from flows.runners.back_ends.kubernetes_job import JobSettings
from flows.runners.back_ends.launch import Launch
from flows.runners.back_ends.osmo import OsmoBackEnd, ServiceSettings
from flows.runners.back_ends.osmo_workflow import WorkflowSettings
from flows.runners.back_ends.ray_jobs import RayBackEnd, RaySettings
from flows.runners.back_ends.slurm import SlurmBackEnd, SlurmSettings
from flows.runners.cluster import WAIT_LIMIT_S

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable: it stands unquoted in scripts."""
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
Image = Annotated[str, StringConstraints(pattern=r"^\S{1,500}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A name of Kubernetes: a namespace, a queue."""
Subdomain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""A longer name of Kubernetes: a Secret, a priority class."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalConfig(Strict):
    backend: Literal["local"]
    slots: int | None = Field(default=None, ge=1, le=1024)


class ElsewhereConfig(Strict):
    """What every cluster elsewhere needs: paths and names as its nodes see them.

    `shard_scale` makes shards of suites so many times longer than the workload has them, where starting a job is slow.
    `poll_s` is how often it is asked about all its orders.
    """

    slots: int = Field(ge=1, le=100_000)
    poll_s: float = Field(default=0.5, ge=0.1, le=60)
    server: Url
    home: PurePosixPath
    python: str = "python3"
    env: dict[Variable, str] = Field(default_factory=dict, max_length=32)
    wait_limit_s: float = Field(default=WAIT_LIMIT_S, gt=0, le=30 * 86400)
    shard_scale: int = Field(default=1, ge=1, le=1000)


class RemoteConfig(ElsewhereConfig):
    """A cluster whose nodes read the control plane's token from a file."""

    token_file: PurePosixPath

    def launch(self) -> Launch:
        return Launch(self.server, self.token_file, self.home, self.python, self.env)


class SlurmConfig(RemoteConfig):
    backend: Literal["slurm"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    arguments: list[str] = Field(default_factory=list, max_length=32)
    accounting: bool = False
    conf: str | None = None

    def open(self) -> BackEnd:
        values = self.model_dump(include={"partition", "account", "qos", "accounting", "conf"})
        return SlurmBackEnd(self.launch(), SlurmSettings(arguments=tuple(self.arguments), **values))


class RayConfig(RemoteConfig):
    backend: Literal["ray"]
    address: Url
    auth_token_file: Path | None = None

    def open(self) -> BackEnd:
        return RayBackEnd(self.launch(), RaySettings(self.address, self.auth_token_file))


class Toleration(Strict):
    """A taint of nodes that pods may bear."""

    key: str | None = Field(default=None, max_length=317)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    def manifest(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class KubernetesConfig(RemoteConfig):
    """A namespace of Kubernetes. Without an `address`, the cluster that the runner itself is a pod of."""

    backend: Literal["kubernetes"]
    image: Image
    token_secret: Subdomain
    poll_s: float = Field(default=2, ge=0.1, le=60)
    home: PurePosixPath = PurePosixPath("/fleetloop")
    token_file: PurePosixPath = PurePosixPath("/run/fleetloop/token")
    address: Url | None = None
    namespace: Label | None = None
    auth_token_file: Path | None = None
    ca_file: Path | None = None
    queue: Label | None = None
    priority_class: Subdomain | None = None
    service_account: Subdomain | None = None
    runtime_class: Subdomain | None = None
    pull_secrets: list[Subdomain] = Field(default_factory=list, max_length=16)
    node_selector: dict[str, str] = Field(default_factory=dict, max_length=32)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)
    gpu_resource: str = Field(default="nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    memory_gib: float | None = Field(default=None, gt=0, le=100_000)
    scratch_gib: float = Field(default=20, gt=0, le=100_000)
    shm_gib: float | None = Field(default=None, gt=0, le=10_000)
    cache_claim: Subdomain | None = None
    run_as: int = Field(default=10001, ge=1, le=(1 << 31) - 1)
    grace_s: int = Field(default=60, ge=1, le=3600)
    node_lost_s: int = Field(default=30, ge=0, le=3600)
    keep_s: int = Field(default=86400, ge=60, le=30 * 86400)

    @model_validator(mode="after")
    def _can_be_mounted(self) -> Self:
        _keeps_token_to_itself(self.address, self.auth_token_file)
        if not (self.home.is_absolute() and self.token_file.is_absolute()):
            raise ValueError("home and token_file are where a pod finds them: absolute paths")
        if self.token_file.parent in (self.home, PurePosixPath("/"), PurePosixPath("/tmp")):  # noqa: S108 - a pod's own
            raise ValueError("token_file needs a folder of its own: its Secret is mounted there")
        return self

    def open(self) -> BackEnd:
        same = {"priority_class", "service_account", "runtime_class", "node_selector", "gpu_resource", "scratch_gib"}
        same |= {"image", "token_secret", "queue", "run_as", "grace_s", "node_lost_s", "keep_s"}
        same |= {"memory_gib", "shm_gib", "cache_claim"}
        tolerations = tuple(each.manifest() for each in self.tolerations)
        values = self.model_dump(include=same)
        settings = JobSettings(pull_secrets=tuple(self.pull_secrets), tolerations=tolerations, **values)
        api = ApiSettings(self.address, self.namespace, self.auth_token_file, self.ca_file)
        return KubernetesBackEnd(self.launch(), settings, api)


class OsmoConfig(ElsewhereConfig):
    """A pool of NVIDIA OSMO. The control plane's token comes to tasks from OSMO's own store, by `credential`."""

    backend: Literal["osmo"]
    address: Url
    pool: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")
    image: Image
    credential: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
    credential_key: str = Field(default="token", min_length=1, max_length=100)
    home: PurePosixPath = PurePosixPath("/tmp/fleetloop")  # noqa: S108 - the task's own container
    auth_token_file: Path | None = None
    platform: str | None = Field(default=None, max_length=200)
    priority: Literal["HIGH", "NORMAL", "LOW"] = "NORMAL"
    poll_s: float = Field(default=5, ge=0.1, le=60)
    storage_gib: int = Field(default=20, ge=1, le=100_000)
    memory_gib: int = Field(default=4, ge=1, le=100_000)

    @model_validator(mode="after")
    def _keeps_token(self) -> Self:
        _keeps_token_to_itself(self.address, self.auth_token_file)
        return self

    def open(self) -> BackEnd:
        same = {"pool", "image", "credential", "credential_key", "platform", "priority", "storage_gib", "memory_gib"}
        settings = WorkflowSettings(queue_s=int(self.wait_limit_s), **self.model_dump(include=same))
        launch = Launch(self.server, None, self.home, self.python, self.env)
        return OsmoBackEnd(launch, settings, ServiceSettings(self.address, self.auth_token_file))


def _keeps_token_to_itself(address: str | None, token_file: Path | None) -> None:
    """Refuse to send a token in the clear to another machine: whoever reads it may run anything there."""
    if address is None or token_file is None or address.startswith("https://"):
        return
    host = urlsplit(address).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"a token goes to {address} in the clear; use https://, or a tunnel that ends on this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
