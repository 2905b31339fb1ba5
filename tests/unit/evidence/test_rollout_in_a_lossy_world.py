"""Actions are lost, ticks are skipped or repeated, devices are slow: it still ends where it should."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.random import Generator

from control_plane.evaluation.domain import Verdict
from control_plane.rollout.domain import (
    ENDS,
    Action,
    Deployments,
    Increment,
    Offer,
    Phase,
    Plan,
    Rollout,
    Seen,
    Stage,
    Stratum,
    Wishes,
    Withdraw,
    canaries_in,
    decide,
)

HALL = Stratum("hall", "amr")
DEVICES = 40
PLAN = Plan((Stage(0.25, 200.0, 5e6), Stage(1.0, 1e6, 5e6)), max_failure_fraction=0.1)


@dataclass
class World:
    rng: Generator
    ratio: float
    install_fails: float
    rollout: Rollout
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    state: list[str] = field(default_factory=lambda: ["old"] * DEVICES)
    increments: list[Increment] = field(default_factory=list)

    def run(self) -> Phase:
        for tick in range(3000):
            for _ in range(int(self.rng.integers(0, 3))):
                decision = decide(self.rollout, self.seen())
                self.rollout = decision.rollout
                for action in decision.actions:
                    if self.rng.random() < 0.7:
                        self.obey(action)
            if self.rollout.phase in ENDS:
                return self.rollout.phase
            self.live(tick)
        raise AssertionError(f"does not end: {decide(self.rollout, self.seen()).because}")

    @property
    def reached(self) -> int:
        return canaries_in(DEVICES, self.rollout.current.fraction)

    def seen(self) -> Seen:
        count = self.state[: self.reached].count
        devices = Deployments(self.reached, self.reached - count("old"), count("new"), count("failed"), 0, 0)
        holding = self.state.count("new") + self.state.count("offered")
        known = tuple(self.increments)
        return Seen(self.now, 1, holding, devices, known, (), Wishes(start=True))

    def obey(self, action: Action) -> None:
        match action:
            case Offer():
                for i in range(self.reached):
                    if self.state[i] == "old" and self.rng.random() < 0.8:
                        self.state[i] = "offered"
            case Withdraw():
                for i, state in enumerate(self.state):
                    if state in {"offered", "new"} and self.rng.random() < 0.5:
                        self.state[i] = "old"
            case _:
                pass

    def live(self, tick: int) -> None:
        self.now += timedelta(minutes=int(self.rng.integers(1, 10)))
        for i, state in enumerate(self.state):
            if state == "offered" and self.rng.random() < 0.4:
                self.state[i] = "failed" if self.rng.random() < self.install_fails else "new"
        new, old = self.state.count("new"), self.state.count("old") + self.state.count("failed")
        hits = self.rng.poisson((0.3 * new * self.ratio, 0.3 * old))
        self.increments.append(Increment(tick, HALL, 0.1 * new, 0.1 * old, int(hits[0]), int(hits[1])))


def ends(ratio: float, install_fails: float, seeds: int = 15) -> list[Phase]:
    begun = Rollout(PLAN, gate_verdict=Verdict.PASS)
    return [World(np.random.default_rng(seed), ratio, install_fails, begun).run() for seed in range(seeds)]


@pytest.mark.parametrize(
    ("ratio", "install_fails", "end"),
    [(1.0, 0.0, Phase.DONE), (0.5, 0.0, Phase.DONE), (4.0, 0.0, Phase.HALTED), (1.0, 0.9, Phase.HALTED)],
)
def test_it_ends_where_it_should(ratio: float, install_fails: float, end: Phase) -> None:
    found = ends(ratio, install_fails)
    assert found.count(end) >= len(found) - 1


def test_a_person_can_end_it_at_any_time() -> None:
    world = World(np.random.default_rng(1), 1.0, 0.0, Rollout(PLAN, Phase.ROLLING, 0, gate_verdict=Verdict.PASS))
    halted = decide(world.rollout, replace(world.seen(), wishes=Wishes(halt=True)))
    assert halted.rollout.phase is Phase.HALTING
