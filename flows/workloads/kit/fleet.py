"""Owns driving a simulated fleet: robots at the dock, robots on missions in a yard, each model asked once a step."""

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit import noise
from flows.workloads.kit.field import FieldRobot, Homes, Models, Pace, Stop, options, say
from flows.workloads.kit.layouts import Topic
from flows.workloads.kit.types import Array

IDLE_S = 0.05
ROOM = 8  # slots come in multiples of this
KEEP_EVERY = 1000  # steps between dropping models that no robot runs


@dataclass
class Mission:
    """One robot on its way. `sample_at`: the step at which a random clip ends, if this mission is sampled."""

    robot: FieldRobot
    seed: int
    sample_at: int | None
    reported: str | None = None


class Yard(ABC):
    """Slots in which robots drive their missions, stepped together; a workload says what a mission is."""

    sample_steps = (60, 120)

    def __init__(self, slots: int, settings: argparse.Namespace) -> None:
        self.free = list(range(slots))
        self.missions: dict[int, Mission] = {}
        self._settings = settings

    @property
    def busy(self) -> bool:
        return bool(self.missions)

    def start(self, robot: FieldRobot) -> None:
        """Send a robot out on a fresh mission of its site."""
        slot = self.free.pop()
        seed = noise.seed_of("mission", robot.robot.device_id, robot.missions, self._settings.seed)
        chance = noise.stream("sample", seed)
        sampled = float(chance.random()) < self._settings.sample_share
        step = int(chance.integers(*self.sample_steps))
        self.missions[slot] = Mission(robot, seed, step if sampled else None)
        self.begin(slot, robot.robot.site, seed)
        robot.depart()

    @abstractmethod
    def begin(self, slot: int, site: str, seed: int) -> None:
        """Put a fresh mission into a slot."""

    @abstractmethod
    def step(self) -> list[FieldRobot]:
        """One control step of everybody; gives the robots that came home."""

    @abstractmethod
    def finish(self, slot: int) -> FieldRobot:
        """End a mission, wherever its robot is, and report it."""

    def home(self, slot: int, distance_m: float, duration_s: float) -> FieldRobot:
        robot = self.missions.pop(slot).robot
        self.free.append(slot)
        robot.arrive(distance_m, duration_s)
        return robot

    def answers(
        self, slots: Iterable[int], inputs: Callable[[Array], Mapping[str, Array]]
    ) -> Iterator[tuple[int, Array]]:
        """Ask each model once for all robots that run it; a robot whose model answers nonsense fails and gets zeros."""
        by_model: dict[str, list[int]] = {}
        for slot in slots:
            by_model.setdefault(self.missions[slot].robot.digest, []).append(slot)
        for group in by_model.values():
            policy = self.missions[group[0]].robot.policy
            if policy is None:
                continue
            started = time.perf_counter()
            answer = policy(**inputs(np.array(group)))
            latency_ms = (time.perf_counter() - started) * 1e3
            for slot, one in zip(group, answer, strict=True):
                yield slot, self._heard(self.missions[slot].robot, one, latency_ms)

    @staticmethod
    def _heard(robot: FieldRobot, answer: Array, latency_ms: float) -> Array:
        if np.isfinite(answer).all():
            robot.decided(latency_ms)
            return answer
        robot.fail(robot.digest, "the model answered with a number that is none")
        return np.zeros_like(answer)


class Fleet:
    """All robots. A bigger yard replaces one that has become small, which then empties."""

    def __init__(self, yard: Callable[[int], Yard], dock_steps: int) -> None:
        self.robots: list[FieldRobot] = []
        self._new_yard, self._dock_steps = yard, dock_steps
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
            self._yards.append(self._new_yard(self._room))
        waiting = []
        for ready, robot in self._docked:
            if ready <= self._step and self._yards[-1].free and robot.dock(self._models):
                self._yards[-1].start(robot)
            else:
                waiting.append((ready, robot))
        self._docked = waiting

    def close(self) -> None:
        """Report missions that are still under way for what they are, then everything not yet reported."""
        for yard in self._yards:
            for slot in list(yard.missions):
                yard.finish(slot)
        for robot in self.robots:
            robot.close()


@dataclass(frozen=True)
class Trade:
    """What a workload brings: its yard, where its robots may stand, and what they record."""

    yard: Callable[[int, argparse.Namespace], Yard]
    sites: tuple[str, ...]
    topics: Mapping[str, Topic]
    step_s: float


def serve(trade: Trade, description: str) -> None:
    """Run the fleet until asked to stop; then report what is not yet reported."""
    settings, stop = options(description), Stop()
    fleet = Fleet(lambda slots: trade.yard(slots, settings), round(settings.dock_s / trade.step_s))
    homes, pace = Homes(settings.root), Pace(settings.rate, trade.step_s)
    while not stop.asked:
        for robot in homes.fresh():
            if robot.site in trade.sites:
                fleet.add(FieldRobot(robot, trade.topics, settings))
            else:
                say(f"{robot.device_id}: site {robot.site!r} is none of {sorted(trade.sites)}")
        if not fleet.step():
            time.sleep(IDLE_S)
        pace.wait()
    fleet.close()
