"""The clusters a runner reaches: a file `clusters.yaml`, in FLEETLOOP_HOME or where FLEETLOOP_CLUSTERS says.

What a cluster costs and has is stated to the control plane (`PUT /clusters/NAME`); here stands how it is reached from
this machine. Without the file there is only the local cluster.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from control_plane.client import Client
from control_plane.factory.domain import JobState, Policy
from control_plane.factory.schemas import JobItem, Slug
from flows.runners.back_ends.configs import (
    KubernetesConfig,
    LocalConfig,
    OsmoConfig,
    RayConfig,
    SlurmConfig,
    Strict,
)
from flows.runners.back_ends.interface import BackEndError
from flows.runners.cluster import Cluster, LocalCluster

MAX_FILE_BYTES = 1 << 20
Config = LocalConfig | SlurmConfig | RayConfig | KubernetesConfig | OsmoConfig


class ClusterConfigError(ValueError):
    """The clusters cannot be used as configured; the message says what to change."""


class File(Strict):
    policy: Policy = Policy.COST
    clusters: dict[Slug, Annotated[Config, Field(discriminator="backend")]]


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


def _open(client: Client, home: Path, name: str, config: Config) -> Cluster:
    if isinstance(config, LocalConfig):
        return LocalCluster(client, home, config.slots, name)
    same = {"wait_limit_s", "shard_scale", "poll_s"}
    try:
        back_end = config.open()
    except BackEndError as error:
        raise ClusterConfigError(f"cluster {name}: {error}") from error
    return Cluster(client, name, back_end, config.slots, **config.model_dump(include=same))


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
