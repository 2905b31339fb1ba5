"""Owns the robot application of a whole simulated fleet in one process: `python -m ...field --root DIR --seed N`.

The field is a simulation with its own distribution of missions (scenarios.SITES), not the world. Every robot drives
mission after mission with the model its agent made active; all robots are stepped together.
"""

import time
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.field import FieldRobot, Homes, Models, Pace, Stop, options, say
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.judge import Judge
from flows.workloads.warehouse_amr.recordings import (
    ENCODING,
    OBSERVATION_TOPIC,
    SAMPLE,
    STATE_TOPIC,
    pack,
    scenario_metadata,
)
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.scenarios import SITES, draw
from flows.workloads.warehouse_amr.simulation import Simulation
from flows.workloads.warehouse_amr.world import CONTROL_S

TOPICS = {OBSERVATION_TOPIC: "warehouse_amr.Observation", STATE_TOPIC: "warehouse_amr.State"}
AFTER_STEPS = 20  # a recording goes on this long after a near miss
SAMPLE_STEPS = (60, 120)  # when in a mission a random clip ends
IDLE_S = 0.05
ROOM = 8  # slots come in multiples of this
KEEP_EVERY = 1000  # steps between dropping models that no robot runs


@dataclass
class Mission:
    """One robot on its way."""

    robot: FieldRobot
    scenario: Scenario
    sample_at: int | None
    reported: str | None = None

    def metadata(self) -> dict[str, str]:
        return scenario_metadata(self.scenario)


class Yard:
    """Robots on their missions, stepped together."""

    def __init__(self, slots: int) -> None:
        self._sim = Simulation(slots)
        self._judge = Judge(self._sim)
        self._missions: dict[int, Mission] = {}
        self._command = np.zeros((slots, 2), np.float32)
        self.free = list(range(slots))

    @property
    def busy(self) -> bool:
        return bool(self._missions)

    def start(self, mission: Mission) -> None:
        slot = self.free.pop()
        self._sim.load(slot, mission.scenario)
        self._judge.begin(slot)
        self._command[slot] = 0
        self._missions[slot] = mission
        mission.robot.depart()

    def step(self) -> list[FieldRobot]:
        """One control step of everybody; gives the robots that came home."""
        state = self._sim.observe()
        ended = self._judge.judge(state)
        self._command[ended] = 0
        self._drive()
        seen, true = pack(self._sim, state, self._command)
        for slot, mission in self._missions.items():
            messages = {OBSERVATION_TOPIC: seen[slot].tobytes(), STATE_TOPIC: true[slot].tobytes()}
            mission.robot.write(int(self._sim.steps[slot]), CONTROL_S, messages)
        self._sim.act(self._command)
        self._watch()
        return [self._finish(slot) for slot in [int(one) for one in ended] + self._stranded()]

    def _drive(self) -> None:
        """Ask each model once for all its robots."""
        by_model: dict[str, list[int]] = {}
        for slot, mission in self._missions.items():
            if self._sim.active[slot]:
                by_model.setdefault(mission.robot.digest, []).append(slot)
        for slots in by_model.values():
            self._decide(np.array(slots), self._missions[slots[0]].robot.policy)

    def _decide(self, slots: Array, policy: Policy | None) -> None:
        if policy is None:
            return
        started = time.perf_counter()
        command = policy(scan=self._sim.scan[slots], vec=self._sim.vector[slots])
        latency_ms = (time.perf_counter() - started) * 1e3
        for slot, answer in zip(slots, command, strict=True):
            robot = self._missions[int(slot)].robot
            if np.isfinite(answer).all():
                self._command[slot] = answer
                robot.decided(latency_ms)
            else:
                self._command[slot] = 0
                robot.fail(robot.digest, "the model answered with a number that is none")

    def _watch(self) -> None:
        """Cut recordings while missions run: a near miss once its two seconds have passed, and random clips."""
        for slot, mission in self._missions.items():
            step = int(self._sim.steps[slot])
            if self._judge.near[slot] and not mission.reported and step >= self._judge.near_step[slot] + AFTER_STEPS:
                self._report(slot, mission, "near_miss")
            elif step == mission.sample_at and not self._judge.near[slot]:
                mission.robot.clip(SAMPLE, None, mission.metadata())

    def _report(self, slot: int, mission: Mission, kind: str) -> None:
        outcome = self._judge.outcome(slot)
        details = {
            "site": mission.scenario.site,
            "tags": mission.scenario.tags,
            "min_clearance_m": round(outcome.min_clearance_m, 3),
            "min_ttc_s": round(outcome.min_ttc_s, 3),
        }
        mission.reported = kind
        mission.robot.event(kind, details, mission.metadata())

    def _stranded(self) -> list[int]:
        """Robots whose model failed on the way."""
        slots = [slot for slot, mission in self._missions.items() if mission.robot.policy is None]
        return [slot for slot in slots if self._sim.active[slot]]

    def _finish(self, slot: int) -> FieldRobot:
        mission, outcome = self._missions[slot], self._judge.outcome(slot)
        if outcome.kind and (mission.reported is None or outcome.kind == "collision") and mission.robot.digest:
            self._report(slot, mission, outcome.kind)
        self._sim.active[slot] = False
        del self._missions[slot]
        self.free.append(slot)
        mission.robot.arrive(outcome.distance_m, outcome.duration_s)
        return mission.robot


class Fleet:
    """All robots: those at the dock, and the yard they drive in. A bigger yard replaces one that has become small."""

    def __init__(self, seed: int, dock_steps: int, sample_share: float) -> None:
        self.robots: list[FieldRobot] = []
        self._seed, self._dock_steps, self._sample_share = seed, dock_steps, sample_share
        self._docked: list[tuple[int, FieldRobot]] = []
        self._yards: list[Yard] = []
        self._models, self._step, self._room = Models(), 0, 0

    def add(self, robot: FieldRobot) -> None:
        self.robots.append(robot)
        self._docked.append((0, robot))
        robot.robot.set_motion(safe_to_switch=True)

    def step(self) -> bool:
        """One control step of the fleet; False if nobody was on the way."""
        self._step += 1
        self._send_out()
        self._yards = [yard for yard in self._yards[:-1] if yard.busy] + self._yards[-1:]
        busy = [yard for yard in self._yards if yard.busy]
        for yard in busy:
            self._docked += [(self._step + self._dock_steps, robot) for robot in yard.step()]
        if self._step % KEEP_EVERY == 0:
            self._models.keep({robot.digest for robot in self.robots})
        return bool(busy)

    def _send_out(self) -> None:
        if len(self.robots) > self._room:
            self._room = -(-len(self.robots) // ROOM) * ROOM
            self._yards.append(Yard(self._room))
        waiting = []
        for ready, robot in self._docked:
            if ready <= self._step and self._yards[-1].free and robot.dock(self._models):
                self._yards[-1].start(self._mission(robot))
            else:
                waiting.append((ready, robot))
        self._docked = waiting

    def _mission(self, robot: FieldRobot) -> Mission:
        seed = noise.seed_of("mission", robot.robot.device_id, robot.missions, self._seed)
        chance = noise.stream("sample", seed)
        sampled = float(chance.random()) < self._sample_share
        return Mission(
            robot, draw(SITES[robot.robot.site], seed), int(chance.integers(*SAMPLE_STEPS)) if sampled else None
        )

    def close(self) -> None:
        for robot in self.robots:
            robot.close()


def main() -> None:
    settings, stop = options("The robots of the reference workload, simulated."), Stop()
    fleet = Fleet(settings.seed, round(settings.dock_s / CONTROL_S), settings.sample_share)
    homes, pace = Homes(settings.root), Pace(settings.rate, CONTROL_S)
    while not stop.asked:
        for robot in homes.fresh():
            if robot.site in SITES:
                fleet.add(FieldRobot(robot, TOPICS, ENCODING, settings))
            else:
                say(f"{robot.device_id}: site {robot.site!r} is none of {sorted(SITES)}")
        if not fleet.step():
            time.sleep(IDLE_S)
        pace.wait()
    fleet.close()


if __name__ == "__main__":
    main()
