"""Simulation shards through Slurm and Ray, beside the local pool.

Measured: shards of the reference workload's `simulate`, from the first request to the last verified result, on two
nodes of one CPU each: a real Slurm (slurmctld, two slurmd) and a real Ray (head, two nodes), started by us. Ceiling:
the same shards on the local pool with two slots, taking turns with them, so all have the same two cores (and all bear
the idle daemons). What else runs on the machine does not hit their turns alike; `clusters_held_*` minds that less: of
a slot's seconds for a shard, those in which its wrapper held it; the rest was lost. `clusters_shard_*` is a slot's
seconds for one shard; its floor is the bare simulator's in two processes that were started and loaded before. The
results of every shard must have the same digest everywhere.

A back end whose programs are not here is left out, and it is said why (tests/clusters tells what to install).
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from control_plane.cli.stack import Stack
from control_plane.evaluation.schemas import SuiteItem
from control_plane.factory.schemas import ClusterPut, FileRef, JobItem
from control_plane.registry.schemas import VersionItem
from flows.runners import stages
from flows.runners.back_ends.configured import Clusters, open_clusters
from flows.runners.session import RunSession
from tests.bench.episodes import OPEN, download, draw, raw
from tests.bench.figure import Figure, cost, rate, say
from tests.bench.small import session_of, small_workload
from tests.bench.stage import client_of, installation
from tests.clusters import ray_cluster, slurm_cluster

SHARDS = 2
SHARD = 45 * 128  # with `shard_scale: 128`: a minute of a core
ROUNDS = 2
SLOTS = 2
ROOT = Path(__file__).parents[2]
WHY_NOT: dict[str, Callable[[], str | None]] = {"slurm": slurm_cluster.why_not, "ray": ray_cluster.why_not}


@dataclass
class Side:
    """One back end: its cluster, what each round took, and what its jobs said of themselves."""

    name: str
    clusters: Clusters
    seconds: list[float] = field(default_factory=list)
    jobs: list[JobItem] = field(default_factory=list)

    @property
    def slot_s(self) -> float:
        """Return the seconds of a slot for one shard."""
        return median(self.seconds) * SLOTS / SHARDS

    @property
    def held_s(self) -> float:
        """Return the seconds for which wrappers held a shard, by the ledger."""
        return sum(job.wall_s for job in self.jobs) / len(self.jobs)

    @property
    def lost_s(self) -> float:
        """Return the seconds of a slot in which no wrapper held its shard: waiting, starting, seeing the end."""
        return sum(self.seconds) * SLOTS / len(self.jobs) - self.held_s

    def told(self) -> str:
        busy = median(job.cpu_s for job in self.jobs)
        return f"{SHARD} scenarios a shard, {busy:.2f} s of a CPU; a wrapper holds one for {self.held_s:.2f} s"


@contextmanager
def _sides(stack: Stack) -> Iterator[list[Side]]:
    with ExitStack() as running:
        sides = [_side(stack, running, "local", {"backend": "local", "slots": SLOTS})]
        for name, why_not in WHY_NOT.items():
            reason = why_not()
            if reason:
                say(f"clusters: {name} is left out: {reason}")
                continue
            say(f"clusters: starting {name}")
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="fl-", ignore_cleanup_errors=True)))
            sides.append(_side(stack, running, name, _remote(stack, running, name, folder)))
        yield sides


def _remote(stack: Stack, running: ExitStack, name: str, folder: Path) -> dict[str, Any]:
    """Start a cluster and return how a runner reaches it."""
    token = folder / "token"
    token.touch(0o600)
    token.write_text(stack.tokens["pipeline"])
    shared = {
        "backend": name, "slots": SLOTS, "server": stack.url, "python": sys.executable, "home": str(folder / "node"),
        "token_file": str(token), "env": {"PYTHONPATH": str(ROOT)},
    }  # fmt: skip
    if name == "slurm":
        slurm = running.enter_context(slurm_cluster.slurm_cluster(folder))
        return shared | {"partition": "low", "conf": str(slurm.conf)}
    ray = running.enter_context(ray_cluster.ray_cluster(folder))
    return shared | {"address": ray.address, "auth_token_file": str(ray.token_file)}


def _side(stack: Stack, running: ExitStack, name: str, config: Mapping[str, Any]) -> Side:
    client = client_of(stack)
    client.put_cluster(name, ClusterPut(backend=name, usd_per_hour=1, watts=1))
    file = stack.home / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"clusters": {name: dict(config)}}))
    clusters = open_clusters(client, stack.home / f"{name}-runner", str(file))
    running.callback(clusters.close)
    return Side(name, clusters)


def _shards(run: RunSession, side: Side, version: VersionItem, suite: SuiteItem, mark: str) -> list[str]:
    """Run all shards of a suite on one side; return the digests of their results."""
    run.clusters = side.clusters
    inputs = {"suite/suite.json": FileRef(sha256=suite.digest, size_bytes=suite.size_bytes)}
    inputs |= stages.prefixed("model", stages.bundle_of(version))
    begun = time.perf_counter()
    asked = [
        run.submit(
            "simulate",
            run.workload.spec.commands.simulate,
            {"suite": suite.name, "start": start, "stop": start + SHARD, "mark": mark},  # no job of another side's
            inputs,
        )
        for start in range(0, suite.scenarios, SHARD)
    ]
    done = list(run.run_jobs(asked))
    side.seconds.append(time.perf_counter() - begun)
    side.jobs += done
    return [(job.outputs or {})["results/results.jsonl"].sha256 for job in done]


def _round(run: RunSession, sides: list[Side], version: VersionItem, suite: SuiteItem, number: int) -> None:
    """Let all sides run the shards of one suite, and compare what they say."""
    turns = [sides[(number + place) % len(sides)] for place in range(len(sides))]
    found = {side.name: _shards(run, side, version, suite, f"{side.name}-{number}") for side in turns}
    for side in sides:
        say(f"clusters: round {number + 1}: {side.name} {suite.scenarios / side.seconds[-1]:.1f} episodes/s")
        if found[side.name] != found["local"]:
            raise RuntimeError(f"{side.name} has other results than the local pool: {found}")


def bench() -> Iterable[Figure]:
    total = SHARDS * SHARD
    with installation(worker=True) as stack:
        workload = small_workload(stack.home / "workload", {}, OPEN)
        with session_of(stack, workload) as run, _sides(stack) as sides:
            say("clusters: training a model")
            version, bare = stages.pretrain(run), []
            own = run.clusters
            for number in range(ROUNDS):
                run.clusters = own
                suite = draw(run, 100 + number, total)
                bare.append(total / raw(*download(run, version, suite, stack.home / "raw"), SLOTS, total))
                _round(run, sides, version, suite, number)
            run.clusters = own
            yield from _figures(sides, median(bare) * SLOTS / SHARDS, total)


def _figures(sides: list[Side], bare_s: float, total: int) -> Iterable[Figure]:
    ceiling = [total / seconds for seconds in sides[0].seconds]
    for side in sides:
        if side.name != "local":
            ours = [total / seconds for seconds in side.seconds]
            yield rate(f"clusters_{side.name}", ours, ceiling, "episodes/s", "the ceiling is the local pool's")
        note = f"{side.lost_s:.2f} s of a slot are lost for each shard, whatever its length"
        yield cost(f"clusters_held_{side.name}", side.held_s + side.lost_s, side.held_s, "s per shard", note)
        yield cost(f"clusters_shard_{side.name}", side.slot_s, bare_s, "s per shard", side.told())
