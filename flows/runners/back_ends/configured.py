"""The clusters a runner reaches: a file `clusters.yaml`, in FLEETLOOP_HOME or where FLEETLOOP_CLUSTERS says.

What a cluster costs and has is stated to the control plane (`PUT /clusters/NAME`); here stands how it is reached from
this machine. Without the file there is only the local cluster.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.client import Client
from control_plane.factory.domain import JobState, Policy
from control_plane.factory.schemas import JobItem, Slug
from flows.runners.back_ends.interface import BackEnd
from flows.runners.back_ends.launch import Launch
from flows.runners.back_ends.ray_jobs import RayBackEnd, RaySettings
from flows.runners.back_ends.slurm import SlurmBackEnd, SlurmSettings
from flows.runners.cluster import WAIT_LIMIT_S, Cluster, LocalCluster

MAX_FILE_BYTES = 1 << 20
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable: it stands unquoted in scripts."""


class ClusterConfigError(ValueError):
    """The clusters cannot be used as configured; the message says what to change."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalConfig(Strict):
    backend: Literal["local"]
    slots: int | None = Field(default=None, ge=1, le=1024)


class RemoteConfig(Strict):
    """What every cluster elsewhere needs: paths and names as its nodes see them.

    `shard_scale` makes shards of suites so many times longer than the workload has them, where starting a job is slow.
    """

    slots: int = Field(ge=1, le=100_000)
    server: str = Field(pattern=r"^https?://\S+$")
    token_file: PurePosixPath
    home: PurePosixPath
    python: str = "python3"
    env: dict[Variable, str] = Field(default_factory=dict, max_length=32)
    wait_limit_s: float = Field(default=WAIT_LIMIT_S, gt=0, le=30 * 86400)
    shard_scale: int = Field(default=1, ge=1, le=1000)

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
    address: str = Field(pattern=r"^https?://\S+$")
    auth_token_file: Path | None = None

    def open(self) -> BackEnd:
        return RayBackEnd(self.launch(), RaySettings(self.address, self.auth_token_file))


class File(Strict):
    policy: Policy = Policy.COST
    clusters: dict[Slug, Annotated[LocalConfig | SlurmConfig | RayConfig, Field(discriminator="backend")]]


class Clusters:
    """The clusters of one runner; a job goes to the one it was placed on."""

    def __init__(self, clusters: Sequence[Cluster], policy: Policy = Policy.COST) -> None:
        self.policy = policy
        self._clusters = {each.name: each for each in clusters}

    @property
    def names(self) -> list[str]:
        return list(self._clusters)

    @property
    def slots(self) -> int:
        """How many jobs may run at once, all clusters together."""
        return sum(each.slots for each in self._clusters.values())

    @property
    def shard_scale(self) -> int:
        """How many times longer shards are than the workload has them: as the slowest to start of the clusters asks."""
        return max((each.shard_scale for each in self._clusters.values()), default=1)

    def submit(self, job: JobItem) -> Future[JobItem]:
        """See a job through on its cluster.

        Raises:
            ClusterConfigError: it waits on a cluster that this runner does not reach.
        """
        return _done(job) if job.state == JobState.DONE else self.get(job.cluster).submit(job)

    def get(self, name: str) -> Cluster:
        """Return a cluster; ClusterConfigError if this runner does not reach it."""
        if name not in self._clusters:
            raise ClusterConfigError(f"this runner reaches {', '.join(self.names)}, and no cluster {name!r}")
        return self._clusters[name]

    def close(self) -> None:
        for each in self._clusters.values():
            each.close()


def _done(job: JobItem) -> Future[JobItem]:
    future: Future[JobItem] = Future()
    future.set_result(job)
    return future


def open_clusters(client: Client, home: Path, given: str | None = None) -> Clusters:
    """Open what is configured.

    Raises:
        ClusterConfigError: the file is not there although it was named, or is not understood.
    """
    path = Path(given) if given else home / "clusters.yaml"
    if not given and not path.exists():
        return Clusters([LocalCluster(client, home)])
    said = read_file(path)
    clusters = [_open(client, home, name, each) for name, each in said.clusters.items()]
    return Clusters(clusters, said.policy)


def _open(client: Client, home: Path, name: str, config: LocalConfig | SlurmConfig | RayConfig) -> Cluster:
    if isinstance(config, LocalConfig):
        return LocalCluster(client, home, config.slots, name)
    limit_s, scale = config.wait_limit_s, config.shard_scale
    return Cluster(client, name, config.open(), config.slots, wait_limit_s=limit_s, shard_scale=scale)


def read_file(path: Path) -> File:
    try:
        text = path.read_bytes()
        if len(text) > MAX_FILE_BYTES:
            raise ClusterConfigError(f"{path} has over {MAX_FILE_BYTES} bytes")
        said = File.model_validate(yaml.safe_load(text))
    except (OSError, ValidationError, yaml.YAMLError) as error:
        raise ClusterConfigError(f"{path}: {error}") from error
    if not said.clusters:
        raise ClusterConfigError(f"{path} names no cluster")
    return said
