"""The stages of the loop: ingest, curate, retrain, evaluate, gate, promote. Each is idempotent by its key (§11)."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.datasets.schemas import Clip, DatasetCreate, DatasetItem
from control_plane.evaluation.domain import CaseStatus, Verdict
from control_plane.evaluation.schemas import (
    EvaluationCreate,
    EvaluationItem,
    GateCreate,
    GateItem,
    ResultsCreate,
    ScenarioCheck,
    StopItem,
    SuiteCreate,
    SuiteItem,
)
from control_plane.evaluation.schemas import FileRef as EvaluationFile
from control_plane.factory.schemas import FileRef, JobItem
from control_plane.registry.schemas import FileRef as RegistryFile
from control_plane.registry.schemas import ReleaseCreate, VersionCreate, VersionItem
from control_plane.rollout.schemas import PlanBody, RolloutCreate, RolloutItem, StageBody
from control_plane.training.domain import TrainingState
from control_plane.training.schemas import TrainingCreate, TrainingFinish
from flows.runners.attest import attest_training
from flows.runners.mlflow import linked
from flows.runners.session import RunSession
from flows.steps.select import Recorded, group_of, select_clips
from flows.steps.shards import shards_of, side_by_side, waves_of
from flows.steps.split import split_groups

INGEST_WAIT_S = 30.0
POLL_S = 0.5
REPRODUCTION = "reproduction"
FROM_INCIDENTS = ("regression", REPRODUCTION)
"""Kinds of suite that are made of recordings of incidents that training never sees."""


def ingest(run: RunSession) -> list[Recorded]:
    """List what the field recorded, once enough incidents of the trigger's window have arrived with their recording.

    Devices upload when they can, so the evidence that asked for this run may still be on its way: wait a little.
    """
    wanted = int(run.params.get("min_clips", run.workload.spec.curation.get("min_clips", 1)))
    give_up = time.monotonic() + INGEST_WAIT_S
    while True:
        events = {e.event_id: e for e in run.client.list_events(since_number=int(run.params.get("since_event", 0)))}
        recorded = []
        for item in run.client.list_recordings():
            event = events.get(item.event_id or "")
            if item.event_id is not None and event is None:
                continue
            kind = event.kind if event else item.trigger
            group = group_of(event.details if event else {}, item.event_id, item.sha256)
            recorded.append(Recorded(item.sha256, item.size_bytes, item.trigger, item.event_id, kind, group))
        incidents = sum(r.kind in run.workload.incident_kinds for r in recorded)
        if incidents >= wanted or time.monotonic() > give_up:
            return recorded
        time.sleep(POLL_S)


def curate(run: RunSession, recorded: list[Recorded]) -> DatasetItem:
    """Choose clips, hold groups out, publish the manifest."""
    rules = run.workload.spec.curation
    clips = select_clips(
        recorded,
        run.workload.incident_kinds,
        most_incidents=int(rules.get("most_incidents", 400)),
        most_samples=int(rules.get("most_samples", 60)),
    )
    if not clips:
        raise ValueError("the field has sent no recording to learn from yet")
    sides = split_groups([clip.group for clip in clips], float(rules.get("holdout", 0.3)), run.workload.name)
    body = DatasetCreate(
        name=run.workload.name,
        code=run.workload.code_sha256,
        query={"since_event": run.params.get("since_event", 0), "kinds": run.workload.incident_kinds},
        clips=[
            Clip(
                recording=c.sha256,
                size_bytes=c.size_bytes,
                event_id=c.event_id,
                trigger=c.trigger,
                group=c.group,
                split="holdout" if sides[c.group] == "holdout" else "train",
            )
            for c in clips
        ],
        card={"workload": run.workload.spec.title, "run": run.run_id, "kinds": _count([c.kind for c in clips])},
    )
    return run.client.publish_dataset(body)


def _count(names: list[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}


def _recordings(run: RunSession, digest: str, split: str, *, events_only: bool = False) -> dict[str, FileRef]:
    manifest = run.client.get_dataset(digest).manifest
    return {
        f"recordings/{clip['recording']}.mcap": FileRef(sha256=clip["recording"], size_bytes=clip["size_bytes"])
        for clip in manifest["clips"]
        if clip["split"] == split and (clip["event_id"] is not None or not events_only)
    }


def prefixed(prefix: str, refs: Mapping[str, Any]) -> dict[str, FileRef]:
    return {f"{prefix}/{path}": FileRef(sha256=ref.sha256, size_bytes=ref.size_bytes) for path, ref in refs.items()}


def bundle_of(version: VersionItem) -> dict[str, RegistryFile]:
    return {f["path"]: RegistryFile(sha256=f["sha256"], size_bytes=f["size_bytes"]) for f in version.content["files"]}


def _parent_inputs(version: VersionItem) -> dict[str, FileRef]:
    weights = {path: ref for path, ref in version.checkpoint.items() if path.startswith("checkpoint/")}
    return prefixed("parent", bundle_of(version)) | prefixed("parent", weights)


def pretrain(run: RunSession) -> VersionItem:
    """Train a first version from the workload's own data."""
    recipe = run.workload.recipe(str(run.params.get("recipe", "standard")))
    params = {"mode": "pretrain", "seed": int(run.params["seed"]), "recipe": recipe}
    return _train(run, params, {}, dataset=None, parent=None)


def retrain(run: RunSession, dataset: str, parent: VersionItem) -> VersionItem:
    """Relabel the dataset's clips with the teacher, then fine-tune the parent on them."""
    recipe = run.workload.recipe(str(run.params.get("recipe", "standard")))
    seed, commands = int(run.params["seed"]), run.workload.spec.commands
    held = _recordings(run, dataset, "train")
    relabelled = run.run_job(
        "relabel",
        commands.relabel,
        {"seed": seed, "recipe": recipe},
        held | _parent_inputs(parent),
        dataset,
    )
    frames = (relabelled.outputs or {})["frames/frames.parquet"]
    inputs = _parent_inputs(parent) | {"dataset/frames.parquet": frames}
    base = parent.checkpoint.get("frames/frames.parquet")
    if base is not None:
        inputs["base/frames.parquet"] = FileRef(sha256=base.sha256, size_bytes=base.size_bytes)
    params = {"mode": "finetune", "seed": seed, "recipe": recipe}
    return _train(run, params, inputs, dataset=dataset, parent=parent)


def _train(
    run: RunSession,
    params: Mapping[str, Any],
    inputs: dict[str, FileRef],
    dataset: str | None,
    parent: VersionItem | None,
) -> VersionItem:
    name = str(run.params.get("recipe", "standard"))
    training = run.client.ask_training(
        TrainingCreate(
            model=run.workload.model,
            dataset=dataset,
            parent=parent.content_digest if parent else None,
            recipe={"name": name} | dict(params["recipe"]),
            code=run.workload.code_sha256,
            seed=params["seed"],
            run_id=run.run_id,
        )
    )
    job = run.run_job("train", run.workload.spec.commands.train, params, inputs, training.key)
    version = run.client.register_version(run.workload.model, _version(job, parent, dataset, training.key, name))
    attest_training(run, version, training, job)
    report = {"job": job.key, "version": version.version} | _report(run, job)
    report |= linked(report, _tags(run, version, training.key))
    run.client.finish_training(training.key, TrainingFinish(state=TrainingState.DONE, report=report))
    return version


def _tags(run: RunSession, version: VersionItem, training: str) -> dict[str, str]:
    """Return what MLflow's run is told of what became of it."""
    page = f"{run.client.server}/versions/{version.content_digest}"
    return {
        "fleetloop.model_version": f"{version.model}@{version.version}",
        "fleetloop.model_version_url": page,
        "fleetloop.content_digest": version.content_digest,
        "fleetloop.training": training,
        "fleetloop.run": run.run_id,
    }


def _version(job: JobItem, parent: VersionItem | None, dataset: str | None, training: str, label: str) -> VersionCreate:
    outputs = {path: RegistryFile(**ref.model_dump()) for path, ref in (job.outputs or {}).items()}
    kept = {path: ref for path, ref in outputs.items() if path.startswith(("checkpoint/", "frames/"))}
    if parent is not None and "frames/frames.parquet" in parent.checkpoint:
        kept.setdefault("frames/frames.parquet", parent.checkpoint["frames/frames.parquet"])
    return VersionCreate(
        files={path.removeprefix("model/"): ref for path, ref in outputs.items() if path.startswith("model/")},
        checkpoint=kept,
        parent=parent.content_digest if parent else None,
        dataset=dataset,
        training=training,
        label=label,
    )


def _report(run: RunSession, job: JobItem) -> dict[str, Any]:
    ref = (job.outputs or {}).get("report/report.json")
    if ref is None or ref.size_bytes > 1 << 20:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        run.client.download(ref.sha256, path)
        report: dict[str, Any] = json.loads(path.read_text())
    return report


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the gate is asked about; `because` says where simulation stopped early."""

    suites: list[str]
    evaluations: list[EvaluationItem]
    because: list[str]


def make_suites(run: RunSession, dataset: str | None) -> list[SuiteItem]:
    """Make every suite of the workload; those that need incidents only when there is a dataset that holds some out."""
    held = _recordings(run, dataset, "holdout", events_only=True) if dataset else {}
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


def _submit_shard(run: RunSession, suite: SuiteItem, side: VersionItem, shard: tuple[int, int]) -> JobItem:
    inputs = {"suite/suite.json": FileRef(sha256=suite.digest, size_bytes=suite.size_bytes)}
    return run.submit(
        "simulate",
        run.workload.spec.commands.simulate,
        {"suite": suite.name, "start": shard[0], "stop": min(shard[1], suite.scenarios)},
        prefixed("model", bundle_of(side)) | inputs,
        f"{suite.name} v{side.version}",
    )


def ask_gate(run: RunSession, candidate: VersionItem, champion: VersionItem | None, evaluated: Evaluated) -> GateItem:
    return run.client.ask_gate(question_of(run, candidate, champion, evaluated.suites))


def plan_for(run: RunSession, *, first: bool) -> PlanBody:
    """Return the workload's plan; a first version has nothing to be compared with and goes to all at once."""
    if first:
        return PlanBody(stages=[StageBody(fraction=1.0, must_prove=False)], gravest="off", max_failure_fraction=0.2)
    return PlanBody.model_validate(
        run.workload.spec.rollout
        or {
            "stages": [
                {"fraction": 0.1},
                {"fraction": 0.5, "must_prove": False},
                {"fraction": 1.0, "must_prove": False},
            ]
        }
    )


def promote(run: RunSession, candidate: VersionItem, gate: GateItem, *, first: bool) -> RolloutItem | None:
    """Cut a release and plan its rollout, if the gate passed; people still have to approve it."""
    if gate.verdict is not Verdict.PASS or run.params.get("promote", "auto") != "auto":
        return None
    release = run.client.create_release(
        ReleaseCreate(
            content_digest=candidate.content_digest,
            device_classes=[run.workload.spec.device_class],
            reason=f"run {run.run_id}",
        ),
        key=f"release-{run.run_id}",
    )
    return run.client.create_rollout(
        RolloutCreate(release=release.digest, plan=plan_for(run, first=first), gate_id=gate.id),
        key=f"rollout-{run.run_id}",
    )
