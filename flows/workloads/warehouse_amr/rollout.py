"""Owns driving a list of scenarios to their ends in a few slots, by a policy, the teacher, or both mixed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.judge import Judge, Outcome
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.simulation import Simulation, State
from flows.workloads.warehouse_amr.teacher import Clearances, Scene, teach

SLOTS = 96


@dataclass(frozen=True)
class Driver:
    """Who drives. `teacher_share` of the scenarios are driven by the teacher; `label` asks it everywhere."""

    policy: Policy | None = None
    teacher_share: float = 0.0
    label: bool = False

    @property
    def asks_teacher(self) -> bool:
        return self.policy is None or self.label or self.teacher_share > 0

    def by_teacher(self, scenario: Scenario) -> bool:
        """Whether the teacher drives this scenario: a property of its seed, not of the batch."""
        return self.policy is None or float(noise.stream("driver", scenario.seed).random()) < self.teacher_share


@dataclass
class Labelled:
    """Decisions with the teacher's answer, in the order of scenarios and steps."""

    scenario: Array
    scan: Array
    vec: Array
    label: Array


@dataclass(frozen=True)
class Moment:
    """All slots in one step, judged and about to act: `seen` were on a mission, `acting` still are."""

    scenario: Array
    seen: Array
    acting: Array
    state: State
    command: Array
    simulation: Simulation
    judge: Judge


Watch = Callable[[Moment], None]


@dataclass
class _Log:
    parts: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def merged(self) -> Labelled:
        index, scan, vec, label = (np.concatenate([part[i] for part in self.parts]) for i in range(4))
        order = np.argsort(index, kind="stable")
        return Labelled(index[order], scan[order], vec[order], label[order])


def outcomes(
    scenarios: Sequence[Scenario], policy: Policy | None, slots: int = SLOTS, threads: int = 1
) -> list[Outcome]:
    """Drive all scenarios; gives their outcomes in their order."""
    return _Rollout(scenarios, Driver(policy), slots, threads).run()


def labelled(scenarios: Sequence[Scenario], driver: Driver, slots: int = SLOTS) -> tuple[list[Outcome], Labelled]:
    """Drive all scenarios and keep every decision with the teacher's label."""
    rollout = _Rollout(scenarios, driver, slots, 1)
    rollout.log = _Log()
    return rollout.run(), rollout.log.merged()


def watched(scenarios: Sequence[Scenario], policy: Policy, watch: Watch) -> list[Outcome]:
    """Drive all scenarios while somebody looks on; what they come to is what `outcomes` says."""
    rollout = _Rollout(scenarios, Driver(policy), SLOTS, 1)
    rollout.watch = watch
    return rollout.run()


class _Rollout:
    def __init__(self, scenarios: Sequence[Scenario], driver: Driver, slots: int, threads: int) -> None:
        self.log: _Log | None = None
        self.watch: Watch | None = None
        self._scenarios, self._driver = scenarios, driver
        self._sim = Simulation(min(slots, max(1, len(scenarios))), threads)
        self._judge = Judge(self._sim)
        self._clearances = Clearances(self._sim.layout) if driver.asks_teacher else None
        self._index = np.zeros(self._sim.slots, np.int64)
        self._by_teacher = np.zeros(self._sim.slots, bool)
        self._command = np.zeros((self._sim.slots, 2), np.float32)

    def run(self) -> list[Outcome]:
        waiting = iter(range(len(self._scenarios)))
        done: list[Outcome | None] = [None] * len(self._scenarios)
        for slot in range(self._sim.slots):
            self._load(slot, waiting)
        while self._sim.active.any():
            for slot in self._step():
                done[int(self._index[slot])] = self._judge.outcome(int(slot))
                self._load(int(slot), waiting)
        return [outcome for outcome in done if outcome is not None]

    def _load(self, slot: int, waiting: Iterator[int]) -> None:
        index = next(waiting, None)
        if index is None:
            return
        scenario = self._scenarios[index]
        self._sim.load(slot, scenario)
        self._judge.begin(slot)
        self._index[slot], self._by_teacher[slot] = index, self._driver.by_teacher(scenario)
        if self._clearances is not None:
            self._clearances.fill(slot)

    def _step(self) -> Array:
        state = self._sim.observe()
        seen = np.flatnonzero(self._sim.active)
        ended = self._judge.judge(state)
        slots = np.flatnonzero(self._sim.active)
        if len(slots):
            self._decide(state, slots)
        if self.watch is not None:
            self.watch(Moment(self._index, seen, slots, state, self._command, self._sim, self._judge))
        if len(slots):
            self._sim.act(self._command)
        return ended

    def _decide(self, state: State, slots: Array) -> None:
        scan, vec = self._sim.scan[slots], self._sim.vector[slots]
        label = None
        if self._clearances is not None:
            label = teach(state.take(slots), Scene(self._sim.layout, self._clearances, slots))
        self._command[slots] = self._choose(slots, scan, vec, label)
        if self.log is not None and label is not None:
            self.log.parts.append((self._index[slots], scan.astype(np.float16), vec, label))

    def _choose(self, slots: Array, scan: Array, vec: Array, label: Array | None) -> Array:
        if self._driver.policy is None:
            return label if label is not None else self._command[slots]
        command = self._driver.policy(scan=scan, vec=vec)
        return command if label is None else np.where(self._by_teacher[slots, None], label, command)
