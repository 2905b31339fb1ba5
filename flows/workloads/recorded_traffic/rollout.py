"""Owns driving a list of scenarios to their ends in a few slots, and keeping the states that were visited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.types import Array
from flows.workloads.recorded_traffic.cases import library
from flows.workloads.recorded_traffic.judge import Judge, Outcome
from flows.workloads.recorded_traffic.planner import plan
from flows.workloads.recorded_traffic.world import Replay, Scenario, Traffic, observe

SLOTS = 128

Decide = Callable[[Traffic, Array], Array]  # the commands of these slots


@dataclass(frozen=True)
class Visited:
    """States of drives, a row each: which scenario, at which step of the recording, where and how fast."""

    scenario: Array
    step: Array
    s: Array
    speed: Array

    def take(self, rows: Array) -> "Visited":
        return Visited(self.scenario[rows], self.step[rows], self.s[rows], self.speed[rows])


def by_policy(policy: Policy) -> Decide:
    return lambda traffic, slots: policy(obs=traffic.observe(slots))[:, 0]


def by_planner(traffic: Traffic, slots: Array) -> Array:
    return plan(traffic.replay, slots, traffic.steps[slots], traffic.s[slots], traffic.speed[slots])


def by_human(traffic: Traffic, slots: Array) -> Array:
    """The recorded acceleration: in the recorded start it drives the recorded way."""
    human: Array = traffic.replay.human[slots, traffic.steps[slots], 2]
    return human


def drive(scenarios: Sequence[Scenario], decide: Decide, slots: int = SLOTS) -> tuple[list[Outcome], Visited]:
    """Drive all scenarios; gives their outcomes in their order and every state they came through."""
    traffic = Traffic(min(slots, max(1, len(scenarios))))
    judge, index = Judge(traffic), np.zeros(traffic.slots, np.int64)
    done: list[Outcome | None] = [None] * len(scenarios)
    waiting, log = list(range(len(scenarios)))[::-1], list[Visited]()

    def load(slot: int) -> None:
        if waiting:
            index[slot] = waiting.pop()
            traffic.load(slot, scenarios[index[slot]])
            judge.begin(slot)

    for slot in range(traffic.slots):
        load(slot)
    command = np.zeros(traffic.slots, np.float32)
    while traffic.active.any():
        active = np.flatnonzero(traffic.active)
        log.append(Visited(index[active], traffic.steps[active], traffic.s[active], traffic.speed[active]))
        command[active] = decide(traffic, active)
        traffic.act(command)
        for slot in judge.judge():
            done[index[slot]] = judge.outcome(int(slot))
            load(int(slot))
    return [outcome for outcome in done if outcome is not None], _merged(log)


def _merged(log: list[Visited]) -> Visited:
    if not log:
        nothing = np.zeros(0, np.int64)
        return Visited(nothing, nothing, nothing.astype(np.float32), nothing.astype(np.float32))
    names = ("scenario", "step", "s", "speed")
    visited = Visited(*(np.concatenate([getattr(part, name) for part in log]) for name in names))
    return visited.take(np.lexsort((visited.step, visited.scenario)))


def labelled(scenarios: Sequence[Scenario], visited: Visited) -> tuple[Array, Array]:
    """What the model would see in the visited states, and what the planner would do there."""
    seen, label = list[Array](), list[Array]()
    for first in range(0, len(scenarios), SLOTS):
        part = scenarios[first : first + SLOTS]
        replay = Replay(len(part))
        for slot, scenario in enumerate(part):
            replay.put(slot, library()[scenario.case])
        rows = visited.take(np.flatnonzero((visited.scenario >= first) & (visited.scenario < first + len(part))))
        slots = rows.scenario - first
        seen.append(observe(replay, slots, rows.step, rows.s, rows.speed))
        label.append(plan(replay, slots, rows.step, rows.s, rows.speed))
    return np.concatenate(seen), np.concatenate(label)
