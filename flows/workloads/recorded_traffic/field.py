"""Owns the car application of a whole simulated fleet in one process: `python -m ...field --root DIR --seed N`.

The field is a replay: each device drives as one recorded vehicle after another of its site, among the others as they
were recorded, from perturbed starts. Nobody reacts to it.
"""

import argparse

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.field import FieldRobot
from flows.workloads.kit.fleet import Mission, Trade, Yard, serve
from flows.workloads.kit.types import Array
from flows.workloads.recorded_traffic.cases import in_groups
from flows.workloads.recorded_traffic.groups import SITES
from flows.workloads.recorded_traffic.judge import Judge
from flows.workloads.recorded_traffic.recordings import (
    OBSERVATION_TOPIC,
    SAMPLE,
    SEEN,
    STATE,
    STATE_TOPIC,
    TOPICS,
    scenario_metadata,
)
from flows.workloads.recorded_traffic.relabel import every_start, vary
from flows.workloads.recorded_traffic.tracks import STEP_S
from flows.workloads.recorded_traffic.world import Scenario, Traffic

AFTER_STEPS = 20  # a recording goes on this long after a near miss


class Road(Yard):
    """Cars among replayed traffic, stepped together."""

    sample_steps = (20, 40)

    def __init__(self, slots: int, settings: argparse.Namespace) -> None:
        super().__init__(slots, settings)
        self._traffic = Traffic(slots)
        self._judge = Judge(self._traffic)
        self._scenarios: dict[int, Scenario] = {}
        self._begun = np.zeros(slots, np.int64)
        self._starts = {site: [one for case in in_groups([site]) for one in every_start(case.name)] for site in SITES}
        self._seen, self._command = np.zeros(slots, SEEN), np.zeros(slots, np.float32)

    def begin(self, slot: int, site: str, seed: int) -> None:
        starts = self._starts[site]
        scenario = vary(starts[int(noise.stream("start", seed).integers(len(starts)))], seed)
        self._scenarios[slot] = scenario
        self._traffic.load(slot, scenario)
        self._judge.begin(slot)
        self._begun[slot] = scenario.start_step

    def step(self) -> list[FieldRobot]:
        driving = list(self.missions)
        self._command[driving] = 0
        for slot, answer in self.answers(driving, self._inputs):
            self._command[slot] = self._seen["accel"][slot] = answer[0]
        self._write(driving)
        self._traffic.act(self._command)
        ended = self._judge.judge()
        for slot, mission in self.missions.items():
            self._watch(slot, mission)
        stranded = [slot for slot in driving if self.missions[slot].robot.policy is None]
        return [self.finish(int(slot)) for slot in {*ended.tolist(), *stranded}]

    def _inputs(self, slots: Array) -> dict[str, Array]:
        seen = self._traffic.observe(slots)
        self._seen["obs"][slots] = seen
        return {"obs": seen}

    def _write(self, driving: list[int]) -> None:
        state = np.zeros(self._traffic.slots, STATE)
        state["step"], state["s"], state["speed"] = self._traffic.steps, self._traffic.s, self._traffic.speed
        for slot in driving:
            messages = {OBSERVATION_TOPIC: self._seen[slot].tobytes(), STATE_TOPIC: state[slot].tobytes()}
            self.missions[slot].robot.write(int(self._traffic.steps[slot]), STEP_S, messages)

    def _watch(self, slot: int, mission: Mission) -> None:
        """Cut recordings while the drive goes on: a near miss once its two seconds have passed, and a random clip."""
        step, near = int(self._traffic.steps[slot]), bool(self._judge.near[slot])
        if near and not mission.reported and step >= self._judge.near_step[slot] + AFTER_STEPS:
            self._report(slot, mission, "near_miss")
        elif step - self._begun[slot] == mission.sample_at and not near:
            mission.robot.clip(SAMPLE, None, {"scenario": scenario_metadata(self._scenarios[slot])})

    def _report(self, slot: int, mission: Mission, kind: str) -> None:
        outcome, scenario = self._judge.outcome(slot), self._scenarios[slot]
        details = {"vehicle": scenario.case, "tags": scenario.tags, "min_ttc_s": round(outcome.min_ttc_s, 3)}
        mission.reported = kind
        mission.robot.event(kind, details, {"scenario": scenario_metadata(scenario)})

    def finish(self, slot: int) -> FieldRobot:
        mission, outcome = self.missions[slot], self._judge.outcome(slot)
        if outcome.kind and (mission.reported is None or outcome.kind == "collision") and mission.robot.digest:
            self._report(slot, mission, outcome.kind)
        self._traffic.active[slot] = False
        return self.home(slot, outcome.distance_m, outcome.duration_s)


if __name__ == "__main__":
    serve(Trade(Road, SITES, TOPICS, STEP_S), "Cars among recorded traffic, simulated.")
