"""Owns the robot application of a whole simulated fleet in one process: `python -m ...field --root DIR --seed N`.

The field is a simulation with its own distribution of missions (scenarios.SITES), not the world. Every robot drives
mission after mission with the model its agent made active; all robots are stepped together.
"""

import argparse

import numpy as np

from flows.workloads.kit.field import FieldRobot
from flows.workloads.kit.fleet import Mission, Trade, Yard, serve
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.judge import Judge
from flows.workloads.warehouse_amr.recordings import (
    OBSERVATION_TOPIC,
    SAMPLE,
    STATE_TOPIC,
    TOPICS,
    pack,
    scenario_metadata,
    scene_of,
)
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.scenarios import SITES, draw
from flows.workloads.warehouse_amr.simulation import Simulation
from flows.workloads.warehouse_amr.world import CONTROL_S

AFTER_STEPS = 20  # a recording goes on this long after a near miss


class Warehouse(Yard):
    """Robots on their missions in MuJoCo, stepped together."""

    def __init__(self, slots: int, settings: argparse.Namespace) -> None:
        super().__init__(slots, settings)
        self._sim = Simulation(slots)
        self._judge = Judge(self._sim)
        self._scenarios: dict[int, Scenario] = {}
        self._command = np.zeros((slots, 2), np.float32)

    def begin(self, slot: int, site: str, seed: int) -> None:
        self._scenarios[slot] = draw(SITES[site], seed)
        self._sim.load(slot, self._scenarios[slot])
        self._judge.begin(slot)
        self._command[slot] = 0

    def step(self) -> list[FieldRobot]:
        state = self._sim.observe()
        ended = self._judge.judge(state)
        self._command[ended] = 0
        driving = [slot for slot in self.missions if self._sim.active[slot]]
        for slot, answer in self.answers(driving, self._inputs):
            self._command[slot] = answer
        seen, true = pack(self._sim, state, self._command)
        for slot, mission in self.missions.items():
            messages = {OBSERVATION_TOPIC: seen[slot].tobytes(), STATE_TOPIC: true[slot].tobytes()}
            mission.robot.write(int(self._sim.steps[slot]), CONTROL_S, messages)
        self._sim.act(self._command)
        for slot, mission in self.missions.items():
            self._watch(slot, mission)
        stranded = [slot for slot in driving if self.missions[slot].robot.policy is None]
        return [self.finish(int(slot)) for slot in [*ended, *stranded]]

    def _inputs(self, slots: Array) -> dict[str, Array]:
        return {"scan": self._sim.scan[slots], "vec": self._sim.vector[slots]}

    def _watch(self, slot: int, mission: Mission) -> None:
        """Cut recordings while the mission runs: a near miss once its two seconds have passed, and a random clip."""
        step, near = int(self._sim.steps[slot]), bool(self._judge.near[slot])
        if near and not mission.reported and step >= self._judge.near_step[slot] + AFTER_STEPS:
            self._report(slot, mission, "near_miss")
        elif step == mission.sample_at and not near:
            mission.robot.clip(SAMPLE, None, _surroundings(self._scenarios[slot]))

    def _report(self, slot: int, mission: Mission, kind: str) -> None:
        outcome, scenario = self._judge.outcome(slot), self._scenarios[slot]
        details = {
            "site": scenario.site,
            "tags": scenario.tags,
            "min_clearance_m": round(outcome.min_clearance_m, 3),
            "min_ttc_s": round(outcome.min_ttc_s, 3),
        }
        mission.reported = kind
        # A near miss is reported once its two seconds have passed; the rest ends the mission.
        step = self._judge.near_step[slot] if kind == "near_miss" else self._sim.steps[slot]
        at_ns = mission.robot.log_time_ns(int(step), CONTROL_S)
        mission.robot.event(kind, details, _surroundings(scenario, at_ns))

    def finish(self, slot: int) -> FieldRobot:
        mission, outcome = self.missions[slot], self._judge.outcome(slot)
        if outcome.kind and (mission.reported is None or outcome.kind == "collision") and mission.robot.digest:
            self._report(slot, mission, outcome.kind)
        self._sim.active[slot] = False
        return self.home(slot, outcome.distance_m, outcome.duration_s)


def _surroundings(scenario: Scenario, event_log_time_ns: int | None = None) -> dict[str, dict[str, str]]:
    return {"scenario": scenario_metadata(scenario), "replay": scene_of(scenario, event_log_time_ns)}


if __name__ == "__main__":
    serve(Trade(Warehouse, tuple(SITES), TOPICS, CONTROL_S), "The robots of the reference workload, simulated.")
