"""Owns the command `relabel`: from recordings of the field to frames that say what should have been done.

Clips alone teach only what the teacher would do where the old model went. So every incident is driven again in varied
form, the teacher correcting at every step: first by the parent, then by a student that has learned from that. Without
the second drive the new model learns to stop for people and not to go on: standing still is where the parent never was.
"""

import copy
import time
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.frames import Frames, frames, join, write_frames
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.learning import Schedule, load_checkpoint, one_thread
from flows.workloads.kit.recordings import read_all
from flows.workloads.kit.types import Array, Json, WorkloadError
from flows.workloads.warehouse_amr.layout import Layout
from flows.workloads.warehouse_amr.policy import FRAME, Network, new_network, runtime
from flows.workloads.warehouse_amr.recordings import Clip, incident
from flows.workloads.warehouse_amr.rollout import Driver, labelled
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.scenarios import NOMINAL, draw, vary
from flows.workloads.warehouse_amr.simulation import State
from flows.workloads.warehouse_amr.teacher import Clearances, Scene, teach
from flows.workloads.warehouse_amr.train import learn

STUDENT_RATE = 1e-3
_LABEL_ROWS = 2048  # states labelled at once: bounds memory


@dataclass(frozen=True)
class Relabelling:
    incident_weight: float = 2.0
    resim_variants: int = 2  # of each incident, in each drive
    resim_missions: int = 160  # in each drive at most: the cost does not grow with a bad week
    resim_drives: int = 2  # the first by the parent, the next by what has been learned so far
    home_missions: int = 40  # everyday missions driven beside the incidents, so that home is not forgotten
    student_epochs: int = 4
    teacher_share: float = 0.25
    keep: float = 0.6
    clips: bool = True
    only_side: str | None = None  # keep only frames of scenarios whose sudden movers all came from this side


def relabel(clips: list[Clip], parent: Network, plan: Relabelling, seed: int) -> tuple[Frames, Json]:
    """Label the clips, then drive their incidents again; gives frames and a report."""
    parts = [clip_frames(clips, plan)] if plan.clips else []
    progress(0.2, f"{len(clips)} recordings labelled")
    incidents = [clip for clip in clips if clip.is_incident and _wanted(clip.scenario, plan)]
    drives = plan.resim_drives if plan.resim_variants and incidents else 0
    rates, student = list[float](), parent
    for drive in range(drives):
        if drive:
            student = _student(parent, join(parts), plan, noise.seed_of("student", seed, drive))
        found, rate = resim_frames(incidents, runtime(student), plan, noise.seed_of("drive", seed, drive))
        parts.append(found)
        rates.append(rate)
        progress(0.2 + 0.8 * (drive + 1) / drives, f"drive {drive + 1}: {rate:.0%} of missions with an incident")
    if not parts:
        raise WorkloadError("the recordings give nothing to learn from")
    data = join(parts)
    report = {"recordings": len(clips), "incidents": len(incidents), "incident_rates": rates, "frames": len(data)}
    return data, report


def _student(parent: Network, data: Frames, plan: Relabelling, seed: int) -> Network:
    """Learn quickly from what is labelled so far: good enough to make the next mistakes."""
    student = copy.deepcopy(parent)
    learn(student, data, Schedule(plan.student_epochs, STUDENT_RATE), seed=seed, mirror=plan.only_side is None)
    return student


def _wanted(scenario: Scenario, plan: Relabelling) -> bool:
    if plan.only_side is None:
        return True
    sides = [mover.y_m > 0 for mover in scenario.movers if mover.kind in ("step_out", "forklift")]
    return bool(sides) and all(side == (plan.only_side == "left") for side in sides)


def clip_frames(clips: list[Clip], plan: Relabelling) -> Frames:
    """What was seen in the field, with what should have been done."""
    if not clips:
        raise WorkloadError("no recording was given")
    labels = label_clips(clips)
    return join(
        [
            frames(
                {"scan": clip.scan, "vec": clip.vec, "label": label},
                weight=plan.incident_weight if clip.is_incident else 1.0,
                group=clip.cluster,
                source="clip",
            )
            for clip, label in zip(clips, labels, strict=True)
        ]
    )


def label_clips(clips: list[Clip]) -> list[Array]:
    layout = Layout.of([clip.scenario for clip in clips])
    clearances = Clearances(layout)
    for slot in range(len(clips)):
        clearances.fill(slot)
    lengths = [len(clip.vec) for clip in clips]
    slots = np.repeat(np.arange(len(clips)), lengths)
    names = vars(clips[0].state)
    state = State(**{name: np.concatenate([getattr(clip.state, name) for clip in clips]) for name in names})
    chunks = [np.arange(start, min(start + _LABEL_ROWS, len(slots))) for start in range(0, len(slots), _LABEL_ROWS)]
    labels = np.concatenate([teach(state.take(rows), Scene(layout, clearances, slots[rows])) for rows in chunks])
    return np.split(labels, np.cumsum(lengths)[:-1])


def resim_frames(incidents: list[Clip], policy: Policy, plan: Relabelling, seed: int) -> tuple[Frames, float]:
    """Drive each incident again in varied form, the teacher answering at every step; also gives the incident rate."""
    missions = [
        (clip.cluster, vary(clip.scenario, noise.seed_of("resim", seed, clip.cluster, variant)))
        for clip in incidents
        for variant in range(plan.resim_variants)
    ]
    if len(missions) > plan.resim_missions:
        chosen = noise.stream("missions", seed).permutation(len(missions))[: plan.resim_missions]
        missions = [missions[index] for index in sorted(chosen)]
    missions += [(f"home-{i}", draw(NOMINAL, noise.seed_of("home", seed, i))) for i in range(plan.home_missions)]
    found, seen = labelled([scenario for _, scenario in missions], Driver(policy, plan.teacher_share, label=True))
    features = {"scan": seen.scan, "vec": seen.vec, "label": seen.label}
    groups = np.array([group for group, _ in missions], object)[seen.scenario]
    data = frames(features, weight=1.0, group=groups, source="resim")
    rate = float(np.mean([outcome.kind is not None for outcome in found]))
    return data.sample(plan.keep, noise.stream("keep", seed)), rate


def command(job: Job) -> None:
    one_thread()
    started = time.monotonic()
    clips, unusable = read_all(job.recordings(), incident)
    parent = new_network(job.seed)
    load_checkpoint(parent, job.input("parent", "checkpoint", "weights.safetensors"))
    data, report = relabel(clips, parent, job.plan(Relabelling, "relabel"), job.seed)
    write_frames(job.output("frames", "frames.parquet"), data, FRAME)
    job.write(
        {**report, "unusable": unusable, "seconds": round(time.monotonic() - started, 2)}, "report", "report.json"
    )


if __name__ == "__main__":
    run(command)
