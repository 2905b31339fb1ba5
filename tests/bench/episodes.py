"""Simulated episodes per second through the evaluation flow.

Measured: the flow's own `evaluate` stage for one model over a nominal suite, from its first call to the control plane
to its last: jobs in the ledger, a process for each on the local cluster's slots, inputs, outputs and results through
the API, the gate asked after each wave. Ceiling: the workload's batched simulator loop over the same scenarios with the
same model in as many processes as the cluster has slots, already started and loaded, with nothing of ours; `ceiling_1`
in the note is the same in one process. Between the two are starting processes, importing, and the control plane.
"""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from control_plane.evaluation.schemas import FileRef, SuiteCreate, SuiteItem
from control_plane.registry.schemas import VersionItem
from flows.runners import stages
from flows.runners.session import RunSession
from tests.bench.figure import Figure, rate, say
from tests.bench.small import session_of, small_workload
from tests.bench.stage import installation, program

SCENARIOS = 750
ROUNDS = 2
SLOTS = max(1, min(2, os.cpu_count() or 1))  # as many as LocalCluster takes by itself
# A rule that stays open until the last scenario, so that both sides simulate all of them.
OPEN = [{"suite": "nominal", "rule": "absolute_at_most", "metric": "incident", "bound": 0.9, "once": True}]


def raw(bundle: Path, suite: Path, processes: int, scenarios: int) -> float:
    """Return episodes per second of the bare simulator loop."""
    share = -(-scenarios // processes)
    with ExitStack() as running:
        workers = [
            running.enter_context(
                program("tests.bench.raw_simulator", str(bundle), str(suite), str(i * share), str((i + 1) * share))
            )
            for i in range(processes)
        ]
        for worker in workers:
            _expect(worker.stdout, "ready")
        begun = time.perf_counter()
        for worker in workers:
            print("go", file=worker.stdin, flush=True)
        for worker in workers:
            _expect(worker.stdout, "done")
        return scenarios / (time.perf_counter() - begun)


def _expect(stream: object, word: str) -> None:
    line = stream.readline()  # type: ignore[attr-defined]
    if not line.startswith(word):
        raise RuntimeError(f"the raw simulator said {line!r}, not {word}")


def draw(run: RunSession, seed: int, scenarios: int) -> SuiteItem:
    """Draw a suite by the workload's own command; another seed, other scenarios."""
    params = {"suite": "nominal", "kind": "nominal", "scenarios": scenarios, "seed": seed}
    job = run.run_job("scenarios", run.workload.spec.commands.scenarios, params, {}, "nominal")
    ref = (job.outputs or {})["suite/suite.json"]
    file = FileRef(sha256=ref.sha256, size_bytes=ref.size_bytes)
    return run.client.create_suite(SuiteCreate(model=run.workload.model, file=file))


def download(run: RunSession, version: VersionItem, suite: SuiteItem, folder: Path) -> tuple[Path, Path]:
    (folder / "bundle").mkdir(parents=True, exist_ok=True)
    for path, ref in stages.bundle_of(version).items():
        run.client.download(ref.sha256, folder / "bundle" / path)
    run.client.download(suite.digest, folder / "suite.json")
    return folder / "bundle", folder / "suite.json"


def _flow(run: RunSession, version: VersionItem, suite: SuiteItem) -> float:
    """Return episodes per second of the flow's stage."""
    begun = time.perf_counter()
    found = stages.evaluate(run, version, None, [suite])
    seconds = time.perf_counter() - begun
    after = stages.evaluate(run, version, None, [suite]).evaluations[0]
    say(f"episodes: {after.done} in {seconds:.1f} s; {found.because[0]}")
    return after.done / seconds


def bench() -> Iterable[Figure]:
    with installation(worker=True) as stack:
        folder = stack.home / "raw"
        folder.mkdir()
        suites = {"nominal": {"kind": "nominal", "scenarios": SCENARIOS, "seed": 1}}
        with session_of(stack, small_workload(stack.home / "workload", suites, OPEN)) as run:
            say("episodes: training a model")
            version = stages.pretrain(run)
            ours, bare, alone = [], [], 0.0
            for number in range(ROUNDS):
                suite = draw(run, 100 + number, SCENARIOS)
                bundle, file = download(run, version, suite, folder)
                if not number:
                    alone = raw(bundle, file, 1, SCENARIOS // 4)
                bare.append(raw(bundle, file, SLOTS, SCENARIOS))
                ours.append(_flow(run, version, suite))
                say(f"episodes: round {number + 1}: {ours[-1]:.1f}/s, raw in {SLOTS} processes {bare[-1]:.1f}/s")
    note = f"{SCENARIOS} scenarios; the ceiling has {SLOTS} processes; ceiling_1 {alone:.1f}/s in one"
    yield rate("episodes", ours, bare, "episodes/s", note)
