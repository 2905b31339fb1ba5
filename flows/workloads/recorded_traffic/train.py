"""Owns the command `train`: imitate the drivers at home, or go on from a parent with frames from the field."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import write_bundle
from flows.workloads.kit.contract import model_contract
from flows.workloads.kit.frames import Frames, frames, join, read_frames, write_frames
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.learning import Batch, Schedule, fit, load_checkpoint, one_thread, save_checkpoint
from flows.workloads.kit.types import Array, Json, WorkloadError
from flows.workloads.recorded_traffic.cases import Case, in_groups
from flows.workloads.recorded_traffic.groups import HELD_OUT_HOME, HOME_GROUPS
from flows.workloads.recorded_traffic.policy import FRAME, Network, new_network, runtime, to_onnx
from flows.workloads.recorded_traffic.rollout import Visited, by_policy, drive, labelled
from flows.workloads.recorded_traffic.world import OFFSETS_STEPS, Replay, Scenario, observe

ROBUST_SPEED_DELTAS_MPS = (-4.0, 3.0)


@dataclass(frozen=True)
class Pretraining:
    epochs: int = 40
    learning_rate: float = 2e-3
    robust: bool = False  # also correct the student in perturbed starts at home: then the field adds no safety
    robust_rounds: int = 3
    robust_share: float = 0.25
    home_groups: tuple[str, ...] = tuple(group for group in HOME_GROUPS if group not in HELD_OUT_HOME)


@dataclass(frozen=True)
class Finetuning:
    base_share: float = 1.0
    epochs: int = 10
    learning_rate: float = 1e-3


def learn(network: Network, data: Frames, schedule: Schedule, seed: int) -> float:
    batch: Batch = {name: torch.from_numpy(np.ascontiguousarray(data[name])) for name in ("obs", "label")}
    return fit(network, network.loss, {**batch, "weight": torch.from_numpy(data.weight)}, schedule, seed=seed)


def human_frames(cases: Sequence[Case], weight: float, source: str) -> Frames:
    """What recorded drivers saw, and the acceleration they chose."""
    return join([_human(case, weight, source) for case in cases])


def _human(case: Case, weight: float, source: str) -> Frames:
    replay = Replay(1)
    replay.put(0, case)
    steps = np.arange(case.steps - 1)
    seen = observe(replay, np.zeros_like(steps), steps, case.s_m[:-1], np.maximum(case.speed_mps[:-1], 0))
    label = case.accel_mps2[:-1, None]
    return frames({"obs": seen, "label": label}, weight=weight, group=case.name, source=source)


def planned_frames(
    scenarios: Sequence[Scenario], visited: Visited, groups: Sequence[str], weight: float, source: str
) -> Frames:
    """What was seen in visited states, and what the planner would do there."""
    seen, label = labelled(scenarios, visited)
    names: Array = np.array(groups, object)[visited.scenario]
    return frames({"obs": seen, "label": label[:, None]}, weight=weight, group=names, source=source)


def pretrain(plan: Pretraining, seed: int) -> tuple[Network, Frames, Json]:
    network, cases = new_network(seed), in_groups(plan.home_groups)
    if not cases:
        raise WorkloadError(f"no recording of {plan.home_groups} in the data folder")
    data = human_frames(cases, 1.0, "human")
    loss = learn(network, data, Schedule(plan.epochs, plan.learning_rate), noise.seed_of("pretrain", seed))
    progress(0.5, f"imitation: loss {loss:.3f}")
    if plan.robust:
        data = _made_robust(network, data, cases, plan, seed)
    return network, data, {"frames": len(data), "loss": loss, "robust": plan.robust}


def _made_robust(network: Network, data: Frames, cases: Sequence[Case], plan: Pretraining, seed: int) -> Frames:
    """Let the student drive perturbed starts at home and correct it."""
    starts = [
        Scenario(case.name, offset, delta)
        for case in cases
        for offset in OFFSETS_STEPS
        if offset + 40 <= case.steps
        for delta in ROBUST_SPEED_DELTAS_MPS
    ]
    for index in range(plan.robust_rounds):
        chosen = noise.stream("robust", seed, index).random(len(starts)) < plan.robust_share
        scenarios = [start for start, wanted in zip(starts, chosen, strict=True) if wanted]
        _, visited = drive(scenarios, by_policy(runtime(network)))
        names = [scenario.case for scenario in scenarios]
        data = join([data, planned_frames(scenarios, visited, names, 1.0, "home")])
        learn(network, data, Schedule(10, 1e-3), noise.seed_of("robust", seed, index))
    return data


def finetune(network: Network, base: Frames, dataset: Frames, plan: Finetuning, seed: int) -> Json:
    kept = base.sample(plan.base_share, noise.stream("base", seed))
    schedule = Schedule(plan.epochs, plan.learning_rate)
    loss = learn(network, join([kept, dataset]), schedule, noise.seed_of("finetune", seed))
    return {"base_frames": len(kept), "dataset_frames": len(dataset), "loss": loss}


def command(job: Job) -> None:
    one_thread()
    started, mode = time.monotonic(), job.params["mode"]
    if mode == "pretrain":
        network, data, report = pretrain(job.plan(Pretraining, "pretrain"), job.seed)
        write_frames(job.output("frames", "frames.parquet"), data, FRAME)
    elif mode == "finetune":
        network = new_network(job.seed)
        load_checkpoint(network, job.input("parent", "checkpoint", "weights.safetensors"))
        base = read_frames(job.input("base", "frames.parquet"), FRAME)
        data = read_frames(job.input("dataset", "frames.parquet"), FRAME)
        report = finetune(network, base, data, job.plan(Finetuning, "train"), job.seed)
    else:
        raise WorkloadError(f"params.json: mode {mode!r} is unknown")
    bundle = job.output("model", "model.onnx").parent
    write_bundle(bundle, to_onnx(network), model_contract(__file__), {"obs": data["obs"]})
    save_checkpoint(network, job.output("checkpoint", "weights.safetensors"))
    seconds = round(time.monotonic() - started, 2)
    job.write({**report, "mode": mode, "seed": job.seed, "seconds": seconds}, "report", "report.json")


if __name__ == "__main__":
    run(command)
