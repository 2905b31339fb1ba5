"""A Slurm for training and a Ray for simulation, two nodes each, and how runners and the ledger know them."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from control_plane.cli.processes import Program, Supervisor
from control_plane.client import Client
from control_plane.factory.schemas import ClusterPut
from tests.clusters.processes import until
from tests.clusters.ray_cluster import Ray, make_ray
from tests.clusters.slurm_cluster import Slurm, make_slurm

ROOT = Path(__file__).parents[3]
GIB = 1 << 30
STATED = {
    # Training says that it needs 2 GiB: only Slurm gives a job so much. For all else Ray is cheaper.
    "slurm": ClusterPut(backend="slurm", usd_per_hour=0.10, watts=60, cpus=1, memory_bytes=4 * GIB, slots=2),
    "ray": ClusterPut(backend="ray", usd_per_hour=0.05, watts=60, cpus=1, memory_bytes=1 * GIB, slots=2),
}


class Clusters:
    """`file` is what a runner reads to reach both."""

    def __init__(self, folder: Path, server: str, token_file: Path) -> None:
        self._folder, self.file = folder, folder / "clusters.yaml"
        self._shared = {
            "slots": 2, "server": server, "token_file": str(token_file), "home": str(folder / "node"),
            "env": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]},
        }  # fmt: skip
        self.slurm: Slurm | None = None
        self.ray: Ray | None = None

    def start(self, supervisor: Supervisor, python: str) -> None:
        def start(name: str, command: list[str], env: Mapping[str, str]) -> None:
            supervisor.start(Program(name, command, env))

        for name in ("slurm", "ray"):
            (self._folder / name).mkdir(parents=True)
        self.slurm = make_slurm(self._folder / "slurm", start)
        self.ray = make_ray(self._folder / "ray", start)
        shared = self._shared | {"python": python}
        clusters = {
            "slurm": shared | {"backend": "slurm", "partition": "low", "conf": str(self.slurm.conf)},
            "ray": shared
            | {
                "backend": "ray",
                "address": self.ray.address,
                "auth_token_file": str(self.ray.token_file),
                "shard_scale": 4,  # starting a job takes seconds, as long as a shard of the local pool's
            },
        }
        self.file.write_text(yaml.safe_dump({"policy": "cost", "clusters": clusters}))

    def state(self, admin: Client) -> None:
        """Say in the ledger what the clusters have and cost."""
        for name, cluster in STATED.items():
            admin.put_cluster(name, cluster)

    def whole(self) -> bool:
        """Say whether all nodes of both are there."""
        slurm, ray = self.slurm, self.ray
        if slurm is None or ray is None or ray.alive() != 3:
            return False
        states = slurm.call("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split()
        return len(states) == len(slurm.nodes) and set(states) <= {"idle", "allocated", "mixed", "completing"}

    def stop(self) -> None:
        if self.slurm is not None:
            until(lambda: "UP" in self._ping(), 60, "slurmctld answers")
            self.slurm.stop_jobs()

    def _ping(self) -> str:
        return self.slurm.call("scontrol", "ping") if self.slurm else ""
