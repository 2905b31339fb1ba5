"""Incidents driven again: which of them a suite of regressions may count."""

from control_plane.evaluation.domain import CaseStatus
from control_plane.evaluation.schemas import (
    EvaluationCreate,
    ScenarioCheck,
    SuiteItem,
)
from control_plane.registry.schemas import VersionItem
from flows.runners.session import RunSession
from flows.runners.stages.simulate import simulate
from flows.steps.shards import shards_of


def check_incidents(run: RunSession, suite: SuiteItem, champion: VersionItem, dataset: str | None) -> None:
    """Drive each incident again, with several seeds, with the model to which it happened, and record what came of it.

    One that does not happen again says nothing about a candidate: the regression suite leaves it out. The champion is
    not asked, because it may be the one that has learned better since; only incidents of nobody known fall to it.
    """
    clips = {clip["event_id"]: clip for clip in run.client.get_dataset(dataset).manifest["clips"]} if dataset else {}
    known = {version.content_digest: version for version in run.client.list_versions(run.workload.model)}
    blamed = {
        item.event_id: item.content_digest
        for item in (run.client.list_recordings() if clips else ())
        if item.event_id in clips and item.content_digest in known
    }
    held = [event for event, clip in clips.items() if event is not None and clip["split"] == "holdout"]
    digests = {blamed.get(event, champion.content_digest) for event in held} or {champion.content_digest}
    for digest in sorted(digests):
        guilty = known.get(digest, champion)
        for source, failures in _driven_again(run, suite, guilty).items():
            if blamed.get(source, champion.content_digest) == digest:
                check = ScenarioCheck(
                    guilty=digest,
                    recording=clips[source]["recording"] if source in clips else None,
                    seeds=len(failures),
                    failures=sum(failures),
                )
                run.client.put_scenario(run.workload.model, source, check)


def _driven_again(run: RunSession, suite: SuiteItem, guilty: VersionItem) -> dict[str, list[bool]]:
    """Say for each incident with which of its seeds the model fails again."""
    evaluation = run.client.create_evaluation(
        EvaluationCreate(content_digest=guilty.content_digest, suite=suite.digest, run_id=run.run_id)
    )
    shards = shards_of(evaluation.missing, run.workload.spec.shard_scenarios * run.clusters.shard_scale)
    simulate(run, suite, [(evaluation, guilty, shard) for shard in shards])
    metric = str(run.workload.spec.gate.get("metric", "incident"))
    outcomes: dict[str, list[bool]] = {}
    for case in run.client.list_cases(evaluation.id):
        failed = case.status is CaseStatus.OK and case.metrics.get(metric) == 1
        outcomes.setdefault(case.cluster, []).append(failed)
    return dict(sorted(outcomes.items()))
