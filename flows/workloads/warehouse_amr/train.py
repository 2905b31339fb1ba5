"""Owns the command `train`: a first model from the teacher at home, or a better one from a parent and field frames."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import write_bundle
from flows.workloads.kit.contract import model_contract
from flows.workloads.kit.frames import Frames, frames, join, read_frames, write_frames
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.learning import Batch, Schedule, fit, load_checkpoint, one_thread, save_checkpoint
from flows.workloads.kit.types import Json, WorkloadError
from flows.workloads.warehouse_amr.policy import FRAME, Network, mirrored, new_network, runtime, to_onnx
from flows.workloads.warehouse_amr.rollout import Driver, labelled
from flows.workloads.warehouse_amr.scenarios import NOMINAL, draw


@dataclass(frozen=True)
class Pretraining:
    """How the first model is made: teacher missions, then rounds in which the student drives and is corrected."""

    teacher_missions: int = 120
    rounds: int = 2
    round_missions: int = 100
    teacher_share: float = 0.2
    keep: float = 0.6
    epochs: tuple[int, ...] = (8, 6, 12)
    learning_rate: float = 1.5e-3
    mirror: bool = True


@dataclass(frozen=True)
class Finetuning:
    """How a model learns from the field without forgetting."""

    base_share: float = 0.5
    epochs: int = 7
    learning_rate: float = 1.5e-3
    mirror: bool = True


def tensors(data: Frames) -> Batch:
    parts = {name: torch.from_numpy(np.ascontiguousarray(data[name])) for name in ("scan", "vec", "label")}
    return {**parts, "weight": torch.from_numpy(data.weight)}


def learn(network: Network, data: Frames, schedule: Schedule, *, seed: int, mirror: bool) -> float:
    return fit(network, network.loss, tensors(data), schedule, seed=seed, augment=mirrored if mirror else None)


def pretrain(plan: Pretraining, seed: int) -> tuple[Network, Frames, Json]:
    """Imitate the teacher on everyday traffic, then let the student drive and ask the teacher (DAgger)."""
    network, parts, loss = new_network(seed), list[Frames](), 0.0
    for index in range(plan.rounds + 1):
        count = plan.round_missions if index else plan.teacher_missions
        driver = Driver(runtime(network), plan.teacher_share, label=True) if index else Driver()
        parts.append(_missions(driver, count, plan.keep, seed, index))
        schedule = Schedule(plan.epochs[min(index, len(plan.epochs) - 1)], plan.learning_rate)
        loss = learn(network, join(parts), schedule, seed=noise.seed_of("pretrain", seed, index), mirror=plan.mirror)
        progress((index + 1) / (plan.rounds + 1), f"round {index}: loss {loss:.4f}")
    data = join(parts)
    return network, data, {"frames": len(data), "loss": loss}


def _missions(driver: Driver, count: int, keep: float, seed: int, index: int) -> Frames:
    seeds = [noise.seed_of("pretrain", seed, index, mission) for mission in range(count)]
    _, seen = labelled([draw(NOMINAL, one) for one in seeds], driver)
    groups = np.array([f"pretrain-{index}-{mission}" for mission in range(count)], object)[seen.scenario]
    features = {"scan": seen.scan, "vec": seen.vec, "label": seen.label}
    data = frames(features, weight=1.0, group=groups, source="teacher" if index == 0 else "dagger")
    return data.sample(keep, noise.stream("keep", seed, index))


def finetune(network: Network, base: Frames, dataset: Frames, plan: Finetuning, seed: int) -> Json:
    """Go on from the parent with part of what it knew and what the field taught."""
    kept = base.sample(plan.base_share, noise.stream("base", seed))
    data = join([kept, dataset])
    schedule = Schedule(plan.epochs, plan.learning_rate)
    loss = learn(network, data, schedule, seed=noise.seed_of("finetune", seed), mirror=plan.mirror)
    return {"frames": len(data), "base_frames": len(kept), "dataset_frames": len(dataset), "loss": loss}


def command(job: Job) -> None:
    one_thread()
    started, mode = time.monotonic(), job.params["mode"]
    if mode == "pretrain":
        network, data, report = pretrain(job.plan(Pretraining, "pretrain"), job.seed)
        write_frames(job.output("frames", "frames.parquet"), data, FRAME)
    elif mode == "finetune":
        network, data, report = _finetuned(job)
    else:
        raise WorkloadError(f"params.json: mode {mode!r} is unknown")
    bundle = job.output("model", "model.onnx").parent
    write_bundle(bundle, to_onnx(network), model_contract(__file__), {"scan": data["scan"], "vec": data["vec"]})
    save_checkpoint(network, job.output("checkpoint", "weights.safetensors"))
    seconds = round(time.monotonic() - started, 2)
    job.write({**report, "mode": mode, "seed": job.seed, "seconds": seconds}, "report", "report.json")


def _finetuned(job: Job) -> tuple[Network, Frames, Json]:
    network = new_network(job.seed)
    load_checkpoint(network, job.input("parent", "checkpoint", "weights.safetensors"))
    base = read_frames(job.input("base", "frames.parquet"), FRAME)
    dataset = read_frames(job.input("dataset", "frames.parquet"), FRAME)
    report = finetune(network, base, dataset, job.plan(Finetuning, "train"), job.seed)
    return network, dataset, report


if __name__ == "__main__":
    run(command)
