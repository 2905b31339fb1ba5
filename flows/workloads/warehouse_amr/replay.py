"""Owns the command `replay`: what one model did in a few scenarios of a suite, step by step."""

from collections.abc import Sequence

import numpy as np

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.replays import Ending, Replay, Robot, Step, chosen, numbers
from flows.workloads.kit.suites import read_suite
from flows.workloads.warehouse_amr.judge import GOAL, HIT_MOVER, HIT_RACK, STRUCK, STUCK, Outcome
from flows.workloads.warehouse_amr.layout import world_of
from flows.workloads.warehouse_amr.rollout import Moment, watched
from flows.workloads.warehouse_amr.scenario import Scenario, from_json
from flows.workloads.warehouse_amr.world import CONTROL_S, FAR_M, RANGE_M, RAY_ANGLES_RAD, ROBOT_RADIUS_M, SIMULATOR

NOTHING = 9.0  # what the judge says where nothing is near
ENDINGS = {
    GOAL: "reached its goal",
    HIT_MOVER: "drove into a person or a forklift",
    HIT_RACK: "drove into a rack, a wall or a pallet",
    STUCK: "got stuck",
    STRUCK: "was struck while it stood still",
}


class Recorder:
    """Writes down every step of every scenario."""

    def __init__(self, scenarios: int) -> None:
        self.steps: list[list[Step]] = [[] for _ in range(scenarios)]

    def __call__(self, moment: Moment) -> None:
        clearance, ttc = moment.judge.dangers(moment.state)
        acting = set(moment.acting.tolist())
        for slot in moment.seen.tolist():
            command = numbers(moment.command[slot]) if slot in acting else None
            step = _step(moment, slot, command, float(clearance[slot]), float(ttc[slot]))
            self.steps[int(moment.scenario[slot])].append(step)


def _step(moment: Moment, slot: int, command: list[float] | None, clearance_m: float, ttc_s: float) -> Step:
    state, simulation = moment.state, moment.simulation
    x_m, y_m, yaw_rad, speed_mps = numbers(
        np.array([state.x[slot], state.y[slot], state.yaw[slot], state.speed[slot]], np.float64)
    )
    return Step(
        t_s=round(int(simulation.steps[slot]) * CONTROL_S, 1),
        x_m=x_m,
        y_m=y_m,
        yaw_rad=yaw_rad,
        speed_mps=speed_mps,
        movers=_movers(moment, slot),
        ranges_m=numbers(simulation.scan[slot, 0] * RANGE_M),
        command=command,
        clearance_m=_near(clearance_m),
        ttc_s=_near(ttc_s),
    )


def _movers(moment: Moment, slot: int) -> list[list[float]]:
    radius = moment.simulation.layout.mover["radius_m"]
    places = np.stack([moment.state.mover_x[slot], moment.state.mover_y[slot], radius[slot]], 1)
    return [numbers(place) for place in places if place[0] < FAR_M / 2]


def _near(value: float) -> float | None:
    return round(value, 4) if value < NOTHING else None


def _ending(outcome: Outcome) -> Ending:
    words = f"{ENDINGS[outcome.status]} after {outcome.duration_s:.1f} s"
    if outcome.near_miss:
        words += f"; a near miss at {outcome.incident_step * CONTROL_S:.1f} s"
    return Ending(words, outcome.metrics())


def replays(scenarios: Sequence[Scenario], policy: Policy) -> list[Replay]:
    """Drive the scenarios again, as `simulate` does, and keep all of it."""
    recorder = Recorder(len(scenarios))
    outcomes = watched(scenarios, policy, recorder)
    robot = Robot(ROBOT_RADIUS_M, RANGE_M, numbers(RAY_ANGLES_RAD))
    return [
        Replay(policy.sha256, CONTROL_S, world_of(scenario), robot, steps, _ending(outcome))
        for scenario, steps, outcome in zip(scenarios, recorder.steps, outcomes, strict=True)
    ]


def command(job: Job) -> None:
    suite = read_suite(job.input("suite", "suite.json"), SIMULATOR)
    entries = chosen(suite, job.params["scenarios"])
    scenarios = [from_json(entry.params, f"suite.json: {entry.id}") for entry in entries]
    policy = Policy.load(job.input("model"))
    for entry, replay in zip(entries, replays(scenarios, policy), strict=True):
        replay.write(job.output("replay", f"{entry.id}.json"), suite, entry)
    progress(1.0, f"{len(entries)} replays")


if __name__ == "__main__":
    run(command)
