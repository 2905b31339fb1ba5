"""Owns the command `relabel`: from recordings of the field to frames that say what should have been done.

Clips alone teach only what the teacher would do where the old model went. So every incident is also driven again in
varied form with the parent driving and the teacher correcting: that is where the improvement comes from.
"""

import time
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.frames import Frames, frames, join, write_frames
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.types import Json, WorkloadError
from flows.workloads.warehouse_amr.layout import Layout
from flows.workloads.warehouse_amr.policy import FRAME
from flows.workloads.warehouse_amr.recordings import Clip, incident
from flows.workloads.warehouse_amr.rollout import Driver, labelled
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.scenarios import vary
from flows.workloads.warehouse_amr.simulation import State
from flows.workloads.warehouse_amr.teacher import Clearances, Scene, teach

_LABEL_ROWS = 2048  # states labelled at once: bounds memory


@dataclass(frozen=True)
class Relabelling:
    incident_weight: float = 2.0
    resim_variants: int = 3
    teacher_share: float = 0.25
    keep: float = 0.6
    clips: bool = True
    only_side: str | None = None  # keep only frames of scenarios whose sudden movers all came from this side


def relabel(clips: list[Clip], policy: Policy, plan: Relabelling, seed: int) -> tuple[Frames, Json]:
    parts = [clip_frames(clips, plan)] if plan.clips else []
    progress(0.2, f"{len(clips)} recordings labelled")
    incidents = [clip for clip in clips if clip.is_incident and _wanted(clip.scenario, plan)]
    drives = list[bool]()
    if plan.resim_variants and incidents:
        resim, drives = resim_frames(incidents, policy, plan, seed)
        parts.append(resim)
    if not parts:
        raise WorkloadError("the recordings give nothing to learn from")
    data = join(parts)
    report = {
        "recordings": len(clips),
        "incidents": len(incidents),
        "resimulated": len(drives),
        "resimulated_incidents": sum(drives),
        "frames": len(data),
    }
    return data, report


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


def label_clips(clips: list[Clip]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
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


def resim_frames(incidents: list[Clip], policy: Policy, plan: Relabelling, seed: int) -> tuple[Frames, list[bool]]:
    """Drive each incident again in varied form, the parent driving, the teacher answering at every step."""
    varied, groups = list[Scenario](), list[str]()
    for clip in incidents:
        for variant in range(plan.resim_variants):
            varied.append(vary(clip.scenario, noise.seed_of("resim", seed, clip.cluster, variant)))
            groups.append(clip.cluster)
    found, seen = labelled(varied, Driver(policy, plan.teacher_share, label=True))
    features = {"scan": seen.scan, "vec": seen.vec, "label": seen.label}
    data = frames(features, weight=1.0, group=np.array(groups, object)[seen.scenario], source="resim")
    return data.sample(plan.keep, noise.stream("keep", seed)), [outcome.kind is not None for outcome in found]


def command(job: Job) -> None:
    started = time.monotonic()
    clips = [incident(path) for path in job.recordings()]
    policy = Policy.load(job.input("parent"))
    data, report = relabel(clips, policy, job.plan(Relabelling, "relabel"), job.seed)
    write_frames(job.output("frames", "frames.parquet"), data, FRAME)
    job.write({**report, "seconds": round(time.monotonic() - started, 2)}, "report", "report.json")


if __name__ == "__main__":
    run(command)
