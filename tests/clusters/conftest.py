"""One bench for each back end: a cluster, a served control plane, and what happens to clusters in life.

The clusters are real but for Kubernetes and OSMO: those are stand-ins that behave as documented.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from control_plane.client import Client
from control_plane.factory.schemas import ClusterPut, JobCreate, JobItem, JobSpec
from control_plane.kit.roles import Role
from flows.runners.back_ends.configured import open_clusters
from flows.runners.cluster import Cluster
from flows.steps.orders import order_name
from tests.clusters import ray_cluster, slurm_cluster
from tests.clusters.kubernetes_stand_in import NAMESPACE, Kubernetes, kubernetes_stand_in
from tests.clusters.osmo_stand_in import POOL, Osmo, osmo_stand_in
from tests.clusters.processes import until
from tests.clusters.ray_cluster import Ray
from tests.clusters.slurm_cluster import Slurm
from tests.support.live import serve

ROOT = Path(__file__).parents[2]
WHY_NOT: dict[str, Callable[[], str | None]] = {
    "local": lambda: None,
    "slurm": slurm_cluster.why_not,
    "ray": ray_cluster.why_not,
    "kubernetes": lambda: None,  # these two against stand-ins, which need nothing
    "osmo": lambda: None,
}


@dataclass
class Bench:
    """A cluster of one back end, and the client of its control plane."""

    name: str
    client: Client
    folder: Path
    config: dict[str, Any]
    lose_node: Callable[[int], None]
    preempt: Callable[[Cluster, JobItem, int], None]
    opened: list[Cluster] = field(default_factory=list)

    @property
    def file(self) -> Path:
        path = self.folder / "clusters.yaml"
        path.write_text(yaml.safe_dump({"clusters": {self.name: self.config}}))
        return path

    def open(self) -> Cluster:
        """Open the cluster as a runner does that was started anew."""
        clusters = open_clusters(self.client, self.folder / "runner", str(self.file))
        self.opened.append(clusters.get(self.name))
        return self.opened[-1]

    def ask(self, code: str, key: str = "job-1", **changes: Any) -> JobItem:
        spec = {"command": ["python", "-c", code], "timeout_s": 60} | changes
        return self.client.submit_job(JobCreate(key=key, kind="test", cluster=self.name, spec=JobSpec(**spec)))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    with _folder() as folder, slurm_cluster.slurm_cluster(folder) as made:
        yield made


@pytest.fixture(scope="session")
def ray() -> Iterator[Ray]:
    with _folder() as folder, ray_cluster.ray_cluster(folder) as made:
        yield made


@pytest.fixture
def kubernetes() -> Iterator[Kubernetes]:
    with _folder() as folder, kubernetes_stand_in(folder) as made:
        yield made


@pytest.fixture
def osmo() -> Iterator[Osmo]:
    with _folder() as folder, osmo_stand_in(folder) as made:
        yield made


class _folder:  # noqa: N801 - used as a function is
    """A folder with a short path (sockets bound it), that may be left with files of daemons in it."""

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp(prefix="fl-"))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture(params=list(WHY_NOT))
async def bench(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    reason = WHY_NOT[request.param]()
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    daemons = None if request.param == "local" else request.getfixturevalue(request.param)
    async with serve(database_url, tmp_path / "server") as live:
        client = live.client(patience_s=5)
        token = tmp_path / "token"
        token.write_text(live.server.tokens[Role.PIPELINE])
        token.chmod(0o600)
        made = await asyncio.to_thread(BENCHES[request.param], client, tmp_path, live.url, daemons)
        price = ClusterPut(backend=request.param, usd_per_hour=3600, watts=100, slots=2)
        await asyncio.to_thread(client.put_cluster, request.param, price)
        yield made
        for cluster in made.opened:
            await asyncio.to_thread(cluster.close)
        client.close()


def remote(folder: Path, server: str, **more: Any) -> dict[str, Any]:
    """Return how nodes on this machine start a wrapper of this very code."""
    return {
        "slots": 2,
        "server": server,
        "python": sys.executable,
        "home": str(folder / "node"),
        "token_file": str(folder / "token"),
        "env": {"PYTHONPATH": str(ROOT)},
    } | more


def local_bench(client: Client, folder: Path, server: str, _daemons: None) -> Bench:
    os.environ.setdefault("PYTHONPATH", str(ROOT))

    def lose(pid: int) -> None:
        """The nearest thing to a lost machine: the kernel takes the command and its leash away."""
        for each in (psutil.Process(pid).ppid(), pid):
            os.kill(each, signal.SIGKILL)  # not waited for: the leash is the wrapper's child

    def preempt(cluster: Cluster, job: JobItem, pid: int) -> None:
        cluster.back_end.cancel(order_name(job.key, job.created_at, job.asked, job.attempt))

    return Bench("local", client, folder, {"backend": "local", "slots": 2}, lose, preempt)


def slurm_bench(client: Client, folder: Path, server: str, slurm: Slurm) -> Bench:
    for name in slurm.nodes:
        if name not in slurm.call("sinfo", "-h", "-N", "-p", "low", "-t", "idle", "-o", "%N").split():
            slurm.start_node(name)
    until(slurm.idle, 60, "both nodes of Slurm are idle")

    def lose(pid: int) -> None:
        slurm.lose_node(pid)

    def preempt(cluster: Cluster, job: JobItem, pid: int) -> None:
        """A job of the partition with the higher tier wants the very node."""
        node = slurm.node_of(pid)
        slurm.call("sbatch", "-p", "high", "-w", node, "-o", "/dev/null", "--chdir=/", "--wrap", "sleep 3")

    config = remote(folder, server, backend="slurm", partition="low", conf=str(slurm.conf))
    return Bench("slurm", client, folder, config, lose, preempt)


def ray_bench(client: Client, folder: Path, server: str, ray: Ray) -> Bench:
    while len(ray.nodes) < 2:
        ray.start_node()
    ray.whole()

    def preempt(cluster: Cluster, job: JobItem, pid: int) -> None:
        """Ray pre-empts nothing by itself; whoever drains a node stops its jobs as this does."""
        cluster.back_end.cancel(order_name(job.key, job.created_at, job.asked, job.attempt))

    config = remote(folder, server, backend="ray", address=ray.address, auth_token_file=str(ray.token_file))
    return Bench("ray", client, folder, config, ray.lose_node, preempt)


def kubernetes_bench(client: Client, folder: Path, server: str, kubernetes: Kubernetes) -> Bench:
    """Jobs of a namespace; their Secret is mounted where the config says that the token lies."""
    kubernetes.controllers.secrets["fleetloop-token"] = {"token": (folder / "token").read_text()}
    where = {"address": kubernetes.address, "namespace": NAMESPACE, "auth_token_file": str(kubernetes.token_file)}
    what = {"image": "stand-in:1", "token_secret": "fleetloop-token", "token_file": str(folder / "secret" / "token")}
    soon = {"grace_s": 5, "node_lost_s": 1, "poll_s": 0.5}
    config = remote(folder, server, backend="kubernetes", **where | what | soon)

    def preempt(cluster: Cluster, job: JobItem, pid: int) -> None:
        kubernetes.controllers.preempt(pid)

    return Bench("kubernetes", client, folder, config, kubernetes.controllers.lose_node, preempt)


def osmo_bench(client: Client, folder: Path, server: str, osmo: Osmo) -> Bench:
    osmo.credentials["fleetloop"] = {"token": (folder / "token").read_text()}
    where = {"address": osmo.address, "pool": POOL, "auth_token_file": str(osmo.token_file), "poll_s": 0.5}
    config = remote(folder, server, backend="osmo", image="stand-in:1", credential="fleetloop", **where)
    del config["token_file"]

    def preempt(cluster: Cluster, job: JobItem, pid: int) -> None:
        osmo.preempt(pid)

    return Bench("osmo", client, folder, config, osmo.lose_node, preempt)


BENCHES: dict[str, Callable[..., Bench]] = {
    "local": local_bench,
    "slurm": slurm_bench,
    "ray": ray_bench,
    "kubernetes": kubernetes_bench,
    "osmo": osmo_bench,
}


def running(file: Path, limit_s: float = 60) -> int:
    """Wait for the process that writes its number into a file, and return it."""
    until(lambda: file.exists() and file.read_text().endswith("\n"), limit_s, f"a job writes {file.name}")
    return int(file.read_text())


def gone(pid: int, limit_s: float = 30) -> None:
    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(ended, limit_s, f"process {pid} ends")
