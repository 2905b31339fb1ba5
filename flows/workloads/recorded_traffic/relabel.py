"""Owns the command `relabel`: incidents of the field, planned again by a teacher that knows what came next.

Each incident is driven again, in varied starts, by the model so far; where that is unsafe the whole drive is labelled
and learned, and the next round drives with what was learned. With `imitate` the recorded drivers of the sites are
copied instead: a plausible recipe that makes things worse.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.frames import Frames, join, write_frames
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.learning import Schedule, load_checkpoint, one_thread
from flows.workloads.kit.recordings import read_all
from flows.workloads.kit.types import Json, WorkloadError
from flows.workloads.recorded_traffic.cases import in_groups, library
from flows.workloads.recorded_traffic.policy import FRAME, Network, new_network, runtime
from flows.workloads.recorded_traffic.recordings import Clip, clip
from flows.workloads.recorded_traffic.rollout import Visited, by_policy, drive
from flows.workloads.recorded_traffic.train import human_frames, learn, planned_frames
from flows.workloads.recorded_traffic.world import OFFSETS_STEPS, PROFILES, Scenario

_STUDENT = Schedule(10, 1e-3)


@dataclass(frozen=True)
class Relabelling:
    incident_weight: float = 1.5
    rounds: int = 3
    variants: int = 4  # of each incident, in each round
    drives: int = 400  # in each round at most: the cost does not grow with a bad week
    imitate: bool = False


def relabel(clips: list[Clip], parent: Network, plan: Relabelling, seed: int) -> tuple[Frames, Json]:
    if not clips:
        raise WorkloadError("no recording was given")
    if plan.imitate:
        return _imitated(clips, plan)
    parts = [clip_frames(clips, plan)]
    incidents = [one for one in clips if one.is_incident]
    student, rates = parent, list[float]()
    for index in range(plan.rounds if incidents else 0):
        scenarios, groups = _again(incidents, plan, noise.seed_of("again", seed, index))
        outcomes, visited = drive(scenarios, by_policy(runtime(student)))
        rates.append(float(np.mean([outcome.kind is not None for outcome in outcomes])))
        parts.append(planned_frames(scenarios, visited, groups, plan.incident_weight, "resim"))
        student = copy.deepcopy(parent)
        learn(student, join(parts), _STUDENT, noise.seed_of("student", seed, index))
        progress((index + 1) / plan.rounds, f"round {index + 1}: {rates[-1]:.0%} of drives unsafe")
    data = join(parts)
    return data, {"recordings": len(clips), "incidents": len(incidents), "unsafe_rates": rates, "frames": len(data)}


def _imitated(clips: Sequence[Clip], plan: Relabelling) -> tuple[Frames, Json]:
    """The recorded human drivers of the places the recordings came from."""
    groups = {library()[one.scenario.case].group for one in clips}
    data = human_frames(in_groups(groups), plan.incident_weight, "human")
    return data, {"recordings": len(clips), "frames": len(data)}


def clip_frames(clips: Sequence[Clip], plan: Relabelling) -> Frames:
    """What was seen in the field, with what should have been done."""
    lengths = [len(one.step) for one in clips]
    visited = Visited(
        np.repeat(np.arange(len(clips)), lengths),
        np.concatenate([one.step for one in clips]),
        np.concatenate([one.s for one in clips]),
        np.concatenate([one.speed for one in clips]),
    )
    scenarios, groups = [one.scenario for one in clips], [one.cluster for one in clips]
    data = planned_frames(scenarios, visited, groups, 1.0, "clip")
    incident = np.repeat([one.is_incident for one in clips], lengths)
    return replace(data, weight=np.where(incident, plan.incident_weight, 1.0).astype(np.float32))


def vary(scenario: Scenario, seed: int) -> Scenario:
    """The same vehicle from about the same moment, in a car that starts and answers a little differently."""
    rng = noise.stream("recorded_traffic", "vary", seed)
    last = max(0, library()[scenario.case].steps - 41)
    start = int(np.clip(scenario.start_step + rng.integers(-5, 6), 0, last))
    delta = round(scenario.speed_delta_mps + float(rng.uniform(-1.0, 1.0)), 3)
    lag = round(float(np.clip(scenario.lag_s + rng.uniform(-0.1, 0.1), 0, 0.5)), 3)
    return Scenario(scenario.case, start, delta, lag)


def _again(incidents: Sequence[Clip], plan: Relabelling, seed: int) -> tuple[list[Scenario], list[str]]:
    """Each incident's vehicle again: as it was, varied, and from every start and profile of a device."""
    pairs = list[tuple[str, Scenario]]()
    for one in incidents:
        varied = [vary(one.scenario, noise.seed_of(seed, one.cluster, i)) for i in range(plan.variants)]
        pairs += [(one.cluster, scenario) for scenario in (one.scenario, *varied)]
    if len(pairs) > plan.drives:
        chosen = noise.stream("drives", seed).permutation(len(pairs))[: plan.drives]
        pairs = [pairs[index] for index in sorted(chosen)]
    return [scenario for _, scenario in pairs], [cluster for cluster, _ in pairs]


def every_start(case: str) -> list[Scenario]:
    """All starts of a vehicle: three moments, four device profiles."""
    steps = library()[case].steps
    return [
        Scenario(case, offset, **profile) for offset in OFFSETS_STEPS if offset + 41 <= steps for profile in PROFILES
    ]


def command(job: Job) -> None:
    one_thread()
    started = time.monotonic()
    parent = new_network(job.seed)
    load_checkpoint(parent, job.input("parent", "checkpoint", "weights.safetensors"))
    clips, unusable = read_all(job.recordings(), clip)
    data, report = relabel(clips, parent, job.plan(Relabelling, "relabel"), job.seed)
    write_frames(job.output("frames", "frames.parquet"), data, FRAME)
    job.write(
        {**report, "unusable": unusable, "seconds": round(time.monotonic() - started, 2)}, "report", "report.json"
    )


if __name__ == "__main__":
    run(command)
