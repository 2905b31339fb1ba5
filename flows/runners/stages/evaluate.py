"""Suites, and both models simulated on them until the gate has evidence enough."""

from dataclasses import dataclass

from control_plane.evaluation.schemas import (
    EvaluationCreate,
    EvaluationItem,
    GateCreate,
    StopItem,
    SuiteCreate,
    SuiteItem,
)
from control_plane.evaluation.schemas import FileRef as EvaluationFile
from control_plane.registry.schemas import VersionItem
from flows.runners.session import RunSession
from flows.runners.stages.bundles import recordings
from flows.runners.stages.incidents import check_incidents
from flows.runners.stages.simulate import simulate
from flows.steps.shards import side_by_side, waves_of

REPRODUCTION = "reproduction"
FROM_INCIDENTS = ("regression", REPRODUCTION)
"""Kinds of suite that are made of recordings of incidents that training never sees."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the gate is asked about; `because` says where simulation stopped early."""

    suites: list[str]
    evaluations: list[EvaluationItem]
    because: list[str]


def make_suites(run: RunSession, dataset: str | None) -> list[SuiteItem]:
    """Make every suite of the workload; those that need incidents only when there is a dataset that holds some out."""
    held = recordings(run, dataset, "holdout", events_only=True) if dataset else {}
    jobs, kept = [], []
    for name, plan in run.workload.spec.suites.items():
        if plan.kind in FROM_INCIDENTS and not held:
            continue
        if dataset is None and plan.kind != "nominal":
            continue
        params = {"suite": name, "kind": plan.kind, "scenarios": plan.scenarios, "seed": plan.seed}
        params |= {"repeat": plan.repeat} if plan.repeat > 1 else {}
        inputs = held if plan.kind in FROM_INCIDENTS else {}
        jobs.append(run.submit("scenarios", run.workload.spec.commands.scenarios, params, inputs, name))
        kept.append(name)
    suites = []
    for job in run.run_jobs(jobs):
        ref = (job.outputs or {})["suite/suite.json"]
        suites.append(
            run.client.create_suite(
                SuiteCreate(model=run.workload.model, file=EvaluationFile(sha256=ref.sha256, size_bytes=ref.size_bytes))
            )
        )
    return suites


def evaluate(
    run: RunSession,
    candidate: VersionItem,
    champion: VersionItem | None,
    suites: list[SuiteItem],
    dataset: str | None = None,
) -> Evaluated:
    """Simulate both models suite after suite, shard by shard, until each suite is settled or the gate has failed."""
    judged = [suite for suite in suites if suite.kind != REPRODUCTION]
    if champion is not None:
        for suite in suites:
            if suite.kind == REPRODUCTION:
                check_incidents(run, suite, champion, dataset)
    found, because = [], []
    sides = [v for v in (champion, candidate) if v is not None]
    for place, suite in enumerate(judged):
        asked = [
            run.client.create_evaluation(
                EvaluationCreate(content_digest=v.content_digest, suite=suite.digest, run_id=run.run_id)
            )
            for v in sides
        ]
        found += asked
        question = question_of(run, candidate, champion, [s.digest for s in judged[: place + 1]])
        stop = _simulate_suite(run, suite, sides, asked, question)
        because.append(stop.because)
        if stop.final:
            break
    return Evaluated([suite.digest for suite in judged], found, because)


def question_of(run: RunSession, candidate: VersionItem, champion: VersionItem | None, suites: list[str]) -> GateCreate:
    return GateCreate(
        model=run.workload.model,
        candidate=candidate.content_digest,
        champion=champion.content_digest if champion else None,
        suites=suites,
        device_classes=[run.workload.spec.device_class],
    )


def _simulate_suite(
    run: RunSession,
    suite: SuiteItem,
    sides: list[VersionItem],
    asked: list[EvaluationItem],
    question: GateCreate,
) -> StopItem:
    """Simulate until the last suite of the question is settled; all before it are."""
    missing = sorted({place for evaluation in asked for place in evaluation.missing})
    answer = run.client.ask_stop(question)[-1]
    size = run.workload.spec.shard_scenarios * run.clusters.shard_scale
    waves = waves_of(missing, size, max(1, run.clusters.slots // len(sides)))
    for wave in side_by_side(waves, [evaluation.missing for evaluation in asked]):
        if answer.enough:
            break
        work = [(evaluation, side, shard) for shard in wave for evaluation, side in zip(asked, sides, strict=True)]
        simulate(run, suite, work)
        answer = run.client.ask_stop(question)[-1]
    return answer
