"""Shards of simulation, all at once, and their results handed in."""

from collections.abc import Sequence

from control_plane.evaluation.schemas import (
    EvaluationItem,
    ResultsCreate,
    SuiteItem,
)
from control_plane.evaluation.schemas import FileRef as EvaluationFile
from control_plane.factory.schemas import FileRef, JobItem
from control_plane.registry.schemas import VersionItem
from flows.runners.session import RunSession
from flows.runners.stages.bundles import bundle_of, prefixed


def simulate(
    run: RunSession, suite: SuiteItem, work: Sequence[tuple[EvaluationItem, VersionItem, tuple[int, int]]]
) -> None:
    """Run shards, all at once, and hand their results in."""
    jobs = run.run_jobs([_submit_shard(run, suite, side, shard) for _, side, shard in work])
    for (evaluation, _, _), job in zip(work, jobs, strict=True):
        ref = (job.outputs or {})["results/results.jsonl"]
        run.client.add_results(
            evaluation.id,
            ResultsCreate(job_key=job.key, file=EvaluationFile(sha256=ref.sha256, size_bytes=ref.size_bytes)),
        )


def _submit_shard(run: RunSession, suite: SuiteItem, side: VersionItem, shard: tuple[int, int]) -> JobItem:
    inputs = {"suite/suite.json": FileRef(sha256=suite.digest, size_bytes=suite.size_bytes)}
    return run.submit(
        "simulate",
        run.workload.spec.commands.simulate,
        {"suite": suite.name, "start": shard[0], "stop": min(shard[1], suite.scenarios)},
        prefixed("model", bundle_of(side)) | inputs,
        f"{suite.name} v{side.version}",
    )
