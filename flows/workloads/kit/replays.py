"""Owns replay/SCENARIO.json: what one model did in one scenario, step by step, for people who judge it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flows.workloads.kit.suites import Entry, Suite
from flows.workloads.kit.types import Array, Json, WorkloadError

SCHEMA = "fleetloop.replay/v1"
MAX_STEPS = 400
MAX_RAYS = 60
PLACES = 3  # millimetres and milliradians: finer than anybody sees


@dataclass(frozen=True)
class World:
    """What stands still, in metres: rectangles as (x, y, half length, half width), walls as lists of points."""

    rectangles: list[list[float]]
    polylines: list[list[list[float]]]


@dataclass(frozen=True)
class Robot:
    """How the robot is drawn: a disc, and the bearings of the rays of each step's `ranges_m`."""

    radius_m: float
    range_m: float
    ray_angles_rad: list[float]


@dataclass(frozen=True)
class Step:
    """One moment. `movers` are discs (x, y, radius); `command` is None where none was given any more.

    `clearance_m` and `ttc_s` are None where nothing is near, or where nothing would be hit.
    """

    t_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    movers: list[list[float]]
    ranges_m: list[float]
    command: list[float] | None
    clearance_m: float | None
    ttc_s: float | None


@dataclass(frozen=True)
class Ending:
    """How it ended: in words for people, and the metrics that `simulate` reports for this scenario."""

    words: str
    metrics: Json


@dataclass(frozen=True)
class Replay:
    model_sha256: str
    dt_s: float
    world: World
    robot: Robot
    steps: list[Step]
    outcome: Ending

    def write(self, path: Path, suite: Suite, entry: Entry) -> None:
        """Write canonical JSON, so that the same drive is the same bytes."""
        body = {
            "schema": SCHEMA,
            "suite": suite.suite,
            "scenario": entry.id,
            "simulator": suite.simulator,
            **asdict(self),
            "steps": [asdict(step) for step in thinned(self.steps)],
        }
        path.write_text(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n")


def thinned(steps: Sequence[Step]) -> list[Step]:
    """Keep at most `MAX_STEPS`, spread evenly, the first and the last among them; each knows its own time."""
    if len(steps) <= MAX_STEPS:
        return list(steps)
    return [steps[int(place)] for place in np.linspace(0, len(steps) - 1, MAX_STEPS).round()]


def chosen(suite: Suite, names: Sequence[str]) -> list[Entry]:
    """Find the scenarios that were asked for, in the order asked."""
    known = {entry.id: entry for entry in suite.scenarios}
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise WorkloadError(f"params.json: scenarios: suite {suite.suite} has no {missing}")
    return [known[name] for name in names]


def numbers(values: Array) -> list[float]:
    """Round, without the sign of zero and without what JSON cannot hold."""
    return [round(float(value), PLACES) + 0.0 if math.isfinite(value) else 0.0 for value in values]
