"""Owns the replay: cars as point masses on recorded paths, pedals by the model at 10 Hz, everybody else as recorded.

Nobody reacts to the ego, which is why being hit from behind is counted but is no incident, and why this says nothing
about road safety rates. There is no noise; every operation is row by row: results do not depend on the batch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from flows.workloads.kit.types import Array, Json, WorkloadError
from flows.workloads.recorded_traffic.cases import BEHIND_M, MIN_LIFE_STEPS, OFF_PATH_M, Case, library
from flows.workloads.recorded_traffic.tracks import STEP_S

SIMULATOR = "recorded-traffic@1"

NEIGHBOURS = 8
OBSERVATION = 8 + 4 * NEIGHBOURS
MIN_ACCEL_MPS2, MAX_ACCEL_MPS2 = -6.0, 2.5
OFFSETS_STEPS = (0, 20, 40)
_LOOK_M = np.array([3, 10, 25])
_LEAD_M, _SIDE_M, _REACH_M = 80.0, 9.0, 80.0


@dataclass(frozen=True)
class Scenario:
    """A recorded vehicle, from a step of its life on, in a car that may start faster or slower and lag."""

    case: str
    start_step: int = 0
    speed_delta_mps: float = 0.0
    lag_s: float = 0.0

    @property
    def tags(self) -> list[str]:
        profile = (
            "lag" if self.lag_s else "fast" if self.speed_delta_mps > 0 else "slow" if self.speed_delta_mps else ""
        )
        return [f"group:{library()[self.case].group}", f"profile:{profile or 'plain'}"]


Profile = dict[str, float]
PROFILES: tuple[Profile, ...] = ({}, {"speed_delta_mps": 2.0}, {"speed_delta_mps": -2.0}, {"lag_s": 0.3})


def to_json(scenario: Scenario) -> Json:
    return asdict(scenario)


def from_json(value: Mapping[str, object], where: str) -> Scenario:
    """Read a scenario that may come from a device: a case we have, and a start within it."""
    try:
        scenario = Scenario(**value)  # type: ignore[arg-type]  # checked right below
        bounded = abs(scenario.speed_delta_mps) <= 10 and 0 <= scenario.lag_s <= 2
        alive = 0 <= scenario.start_step <= library()[scenario.case].steps - MIN_LIFE_STEPS // 2
    except (TypeError, KeyError) as error:
        raise WorkloadError(f"{where}: not a scenario of this workload's data: {error}") from error
    if not (bounded and alive):
        raise WorkloadError(f"{where}: a scenario out of bounds: {scenario}")
    return scenario


class Replay:
    """What was recorded around each slot's ego, padded to one shape, and looked up by (slot, step)."""

    def __init__(self, slots: int) -> None:
        cases = library().values()
        self.steps = max(case.steps for case in cases)
        self._columns = max(NEIGHBOURS, *(case.other_s_m.shape[1] for case in cases))
        shape = (slots, self.steps, self._columns)
        self._s, self._side = np.full(shape, OFF_PATH_M, np.float32), np.full(shape, OFF_PATH_M, np.float32)
        self._speed, self._half_length = np.zeros(shape, np.float32), np.full(shape, 2.5, np.float32)
        self._half_width = np.ones(shape, np.float32)
        self._curvature = np.zeros((slots, BEHIND_M + 400), np.float32)
        self.human = np.zeros((slots, self.steps, 3), np.float32)  # s, speed, acceleration as recorded
        self.half_length, self.half_width = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
        self.last = np.zeros(slots, np.int64)

    def put(self, slot: int, case: Case) -> None:
        count, columns = case.steps, case.other_s_m.shape[1]
        for target, source, empty in (
            (self._s, case.other_s_m, OFF_PATH_M),
            (self._side, case.other_side_m, OFF_PATH_M),
            (self._speed, case.other_speed_mps, 0.0),
            (self._half_length, case.other_half_length_m, 2.5),
            (self._half_width, case.other_half_width_m, 1.0),
        ):
            target[slot] = empty
            target[slot, :count, :columns] = source
        self._curvature[slot] = case.curvature
        self.human[slot, :count] = np.stack([case.s_m, case.speed_mps, case.accel_mps2], 1)
        self.human[slot, count:] = self.human[slot, count - 1]
        self.half_length[slot], self.half_width[slot] = case.length_m / 2, case.width_m / 2
        self.last[slot] = count - 1

    def at(self, slots: Array, steps: Array) -> "Around":
        steps = np.minimum(steps, self.steps - 1)
        side, half_width = self._side[slots, steps], self._half_width[slots, steps]
        return Around(
            s=self._s[slots, steps],
            side=side,
            speed=self._speed[slots, steps],
            half_length=self._half_length[slots, steps],
            in_way=np.abs(side) < self.half_width[slots, None] + half_width + 0.1,
            touching=np.abs(side) < self.half_width[slots, None] + half_width - 0.1,
            ego_half_length=self.half_length[slots],
        )

    def bends(self, slots: Array, s: Array) -> Array:
        """The curvature of the path a little ahead."""
        index = (s + BEHIND_M).astype(np.int64)[:, None] + _LOOK_M
        bends: Array = self._curvature[slots[:, None], np.clip(index, 0, self._curvature.shape[1] - 1)]
        return bends


@dataclass(frozen=True)
class Around:
    """The others at one moment, a row per asked state."""

    s: Array
    side: Array
    speed: Array
    half_length: Array
    in_way: Array
    touching: Array
    ego_half_length: Array

    def lead(self, s: Array) -> tuple[Array, Array]:
        """The gap to the vehicle ahead in the way, and its speed; a far gap if there is none."""
        distance = self.s - s[:, None]
        gap = distance - self.ego_half_length[:, None] - self.half_length
        gap = np.where(self.in_way & (distance > 0), gap, np.float32(OFF_PATH_M))
        nearest = gap.argmin(1)
        rows = np.arange(len(s))
        return gap[rows, nearest], self.speed[rows, nearest]


def observe(replay: Replay, slots: Array, steps: Array, s: Array, speed: Array) -> Array:
    """What the model sees: own speed, the vehicle ahead, the bends to come, and eight neighbours."""
    around = replay.at(slots, steps)
    gap, lead_speed = around.lead(s)
    seen = np.zeros((len(s), OBSERVATION), np.float32)
    has = gap < _LEAD_M
    gap = np.where(has, np.maximum(gap, -2), np.float32(_LEAD_M))
    seen[:, 0], seen[:, 1], seen[:, 2] = speed / 15, has, gap / 40
    seen[:, 3], seen[:, 4] = 1 / (1 + np.maximum(gap, 0) / 5), np.where(has, (lead_speed - speed) / 8, 0)
    seen[:, 5:8] = 10 * replay.bends(slots, s)
    seen[:, 8:] = _neighbours(around, s, speed)
    return seen


def _neighbours(around: Around, s: Array, speed: Array) -> Array:
    distance = around.s - s[:, None]
    near = (np.abs(around.side) < _SIDE_M) & (np.abs(distance) < _REACH_M)
    order = np.where(near, np.abs(distance) + 2 * np.abs(around.side), np.inf)
    pick = np.argsort(order, axis=1, kind="stable")[:, :NEIGHBOURS]
    exists = np.take_along_axis(near, pick, 1)
    parts = (distance / 40, around.side / 5, (around.speed - speed[:, None]) / 8)
    values = [np.where(exists, np.take_along_axis(part, pick, 1), 0) for part in parts]
    return np.stack([*values, exists.astype(np.float32)], 2).reshape(len(s), -1)


class Traffic:
    """Slots of egos stepped together. Per step: `observe`, then `act` with an acceleration for every slot."""

    def __init__(self, slots: int) -> None:
        self.slots, self.replay = slots, Replay(slots)
        self.active, self.steps = np.zeros(slots, bool), np.zeros(slots, np.int64)
        self.s, self.speed, self.accel = (np.zeros(slots, np.float32) for _ in range(3))
        self._lag_s = np.zeros(slots, np.float32)

    def load(self, slot: int, scenario: Scenario) -> None:
        self.replay.put(slot, library()[scenario.case])
        s, speed, _ = self.replay.human[slot, scenario.start_step]
        self.s[slot], self.speed[slot] = s, max(0.0, speed + scenario.speed_delta_mps)
        self._lag_s[slot], self.accel[slot] = scenario.lag_s, 0
        self.steps[slot], self.active[slot] = scenario.start_step, True

    def observe(self, slots: Array) -> Array:
        return observe(self.replay, slots, self.steps[slots], self.s[slots], self.speed[slots])

    def act(self, command: Array) -> None:
        """Drive every active slot on for 0.1 s with its commanded acceleration (m/s2)."""
        wanted = np.clip(command, MIN_ACCEL_MPS2, MAX_ACCEL_MPS2).astype(np.float32)
        share = STEP_S / np.maximum(self._lag_s, STEP_S)
        self.accel = np.where(self.active, self.accel + (wanted - self.accel) * share, self.accel).astype(np.float32)
        faster = np.maximum(self.speed + self.accel * np.float32(STEP_S), 0)
        travelled = (self.speed + faster) / 2 * np.float32(STEP_S)
        self.s = np.where(self.active, self.s + travelled, self.s)
        self.speed = np.where(self.active, faster, self.speed)
        self.steps += self.active
