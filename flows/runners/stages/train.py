"""Training jobs and the model versions that they register."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.factory.schemas import FileRef, JobItem
from control_plane.registry.schemas import FileRef as RegistryFile
from control_plane.registry.schemas import VersionCreate, VersionItem
from control_plane.training.domain import TrainingState
from control_plane.training.schemas import TrainingCreate, TrainingFinish
from flows.runners.attest import attest_training
from flows.runners.mlflow import linked
from flows.runners.session import RunSession
from flows.runners.stages.bundles import parent_inputs, recordings


def pretrain(run: RunSession) -> VersionItem:
    """Train a first version from the workload's own data."""
    recipe = run.workload.recipe(str(run.params.get("recipe", "standard")))
    params = {"mode": "pretrain", "seed": int(run.params["seed"]), "recipe": recipe}
    return _train(run, params, {}, dataset=None, parent=None)


def retrain(run: RunSession, dataset: str, parent: VersionItem) -> VersionItem:
    """Relabel the dataset's clips with the teacher, then fine-tune the parent on them."""
    recipe = run.workload.recipe(str(run.params.get("recipe", "standard")))
    seed, commands = int(run.params["seed"]), run.workload.spec.commands
    held = recordings(run, dataset, "train")
    relabelled = run.run_job(
        "relabel",
        commands.relabel,
        {"seed": seed, "recipe": recipe},
        held | parent_inputs(parent),
        dataset,
    )
    frames = (relabelled.outputs or {})["frames/frames.parquet"]
    inputs = parent_inputs(parent) | {"dataset/frames.parquet": frames}
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
