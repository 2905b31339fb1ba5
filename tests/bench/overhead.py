"""Control-plane seconds of one turn of the loop, beside its compute seconds.

Measured: every step of a run says how long it took and how long of that it waited for jobs; what is left is ours:
calls, transactions, lineage, gates, uploads of manifests. Without `--report` the turn is that of a first version
(pretrain, suites, evaluate, gate, promote) of the reference workload at reduced sizes, run by `flows.run` in a process
of its own; with `--report FILE` it is the full turn (ingest, curate, relabel, retrain as well) that a demo measured.
`value` is the turn's seconds, the ceiling its compute seconds, so the ratio is the share of time that computed.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from control_plane.cli.workloads import add_workload
from control_plane.pipelines.schemas import RunCreate, RunItem
from tests.bench.figure import Figure, cost, say
from tests.bench.small import small_workload
from tests.bench.stage import client_of, installation

GIVE_UP_S = 150
SUITES = {"nominal": {"kind": "nominal", "scenarios": 150, "seed": 8101}}
LENIENT = [{"suite": "nominal", "rule": "absolute_at_most", "metric": "incident", "bound": 0.9}]


def bench(report: Path | None = None) -> Iterable[Figure]:
    if report is not None:
        said = json.loads(report.read_text())["overhead"]
        yield _figure(said["loop_s"], said["compute_s"], f"read from {report}")
        return
    run = _turn()
    steps = {name: step for name, step in run.steps.items() if step.seconds is not None}
    ours = {name: (step.seconds or 0.0) - (step.compute_s or 0.0) for name, step in steps.items()}
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in ours.items())
    compute = sum(step.compute_s or 0.0 for step in steps.values())
    yield _figure(sum(ours.values()) + compute, compute, f"the first turn at reduced sizes; ours by step: {told}")


def _figure(loop_s: float, compute_s: float, note: str) -> Figure:
    return cost("overhead", loop_s, compute_s, "s per loop", f"{loop_s - compute_s:.2f} s of it are ours; {note}")


def _turn() -> RunItem:
    with installation(worker=True, orchestrator="subprocess", tick_s=0.5) as stack:
        workload = small_workload(stack.home / "workload", SUITES, LENIENT)
        client = client_of(stack)
        pipeline = add_workload(client, workload)
        say("overhead: one turn of the loop")
        run = client.request_run(pipeline, RunCreate(params={"seed": 1, "workload": workload}, because="bench"))
        give_up = time.monotonic() + GIVE_UP_S
        while run.state not in ("done", "failed", "cancelled") and time.monotonic() < give_up:
            time.sleep(0.3)
            run = client.get_run(run.id)
        if run.state != "done":
            raise RuntimeError(f"the run is {run.state}: {run.failure}\n{stack.supervisor.tail('worker')}")
        return run
