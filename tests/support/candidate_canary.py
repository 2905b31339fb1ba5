"""A canary of the reference workload: missions that were really driven, drawn again and again into rollouts.

Every site has one canary robot for three that keep the champion. In each slice of time every robot drives one mission,
drawn with replacement from those of its model at its site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from control_plane.rollout.domain import Gravest, Ledger, Plan, Stage, Stratum, weigh
from flows.workloads.kit.types import Json
from flows.workloads.warehouse_amr.scenario import Scenario
from tests.support.candidates import SPEC

HORIZON_KM = 60.0
CONTROLS = 3  # for each canary robot: a quarter of the robots of a site are canaries
LOGGED = ("distance_m", "incident", "collision")
Missions = Mapping[str, NDArray[np.float64]]
"""By site, a row per mission: metres, incident, collision."""


def plan() -> Plan:
    body = dict(SPEC["rollout"])
    stages = tuple(Stage(**{"max_exposure": 1e9, "deadline_s": 1e9} | stage) for stage in body.pop("stages"))
    return Plan(stages, gravest=Gravest(body.pop("gravest")), **body)


PLAN = plan()


def missions(scenarios: Sequence[Scenario], metrics: Sequence[Json]) -> Missions:
    by_site: dict[str, list[list[float]]] = {}
    for scenario, row in zip(scenarios, metrics, strict=True):
        by_site.setdefault(scenario.site, []).append([float(row[name]) for name in LOGGED])
    return {site: np.asarray(rows) for site, rows in by_site.items()}


@dataclass(frozen=True)
class Run:
    """One rollout: after how many kilometres of its canaries it was halted, and by which test; None: not at all."""

    halted_km: float | None
    by: str


def rollout(canary: Missions, control: Missions, rng: Generator) -> Run:
    """Let canaries drive `HORIZON_KM`, look after every slice, and say when the plan would have halted them."""
    shortest = sum(float(rows[:, 0].mean()) for rows in canary.values())
    slices = int(HORIZON_KM * 1000 / shortest) + 1
    ledger = _ledger(canary, control, slices, rng)
    crossed = [
        (test.path.crossed_at, test.name) for test in weigh(PLAN, ledger).harms if test.path.crossed_at is not None
    ]
    if not crossed:
        return Run(None, "")
    look, name = min(crossed)
    metres = float(ledger.exposure[ledger.bucket <= look, 0].sum())
    return Run(metres / 1000, name)


def _ledger(canary: Missions, control: Missions, slices: int, rng: Generator) -> Ledger:
    columns = [
        np.stack([_driven(canary[site], slices, 1, rng), _driven(control[site], slices, CONTROLS, rng)], axis=1)
        for site in canary
    ]
    rows = np.concatenate(columns)  # a row per site and slice, an arm, metres and the two counts
    bucket = np.tile(np.arange(slices), len(columns))
    site = np.repeat(np.arange(len(columns)), slices)
    strata = tuple(Stratum(name, str(SPEC["device_class"])) for name in canary)
    return Ledger(strata, bucket, site, rows[:, :, 0], rows[:, :, 1:].astype(np.int64))


def _driven(pool: NDArray[np.float64], slices: int, robots: int, rng: Generator) -> NDArray[np.float64]:
    chosen = pool[rng.integers(0, len(pool), (slices, robots))]
    summed: NDArray[np.float64] = chosen.sum(axis=1)
    return summed
