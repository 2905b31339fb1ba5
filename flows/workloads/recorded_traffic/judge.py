"""Owns what counts: collisions the ego is to blame for, a time to collision under 1 s, hard braking."""

from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.types import Array, Json
from flows.workloads.recorded_traffic.tracks import STEP_S
from flows.workloads.recorded_traffic.world import Traffic

DEFINITION = "recorded-traffic-metrics@1"

NEAR_TTC_S = 1.0
HARD_BRAKE_MPS2 = -3.5
STANDING_MPS = 0.1
NEVER = -1


@dataclass(frozen=True)
class Outcome:
    collision: bool
    near_miss: bool
    rear_ended: bool
    hard_brakes: int
    distance_m: float
    human_m: float
    duration_s: float
    min_ttc_s: float
    incident_step: int

    @property
    def kind(self) -> str | None:
        return "collision" if self.collision else "near_miss" if self.near_miss else None

    def metrics(self) -> Json:
        return {
            "unsafe": int(self.kind is not None),
            "collision": int(self.collision),
            "near_miss": int(self.near_miss),
            "rear_ended": int(self.rear_ended),
            "hard_brake": self.hard_brakes,
            "distance_m": round(self.distance_m, 4),
            "duration_s": round(self.duration_s, 1),
            "progress": round(min(self.distance_m / max(self.human_m, 1.0), 2.0), 4),
            "min_ttc_s": round(self.min_ttc_s, 4),
        }


class Judge:
    """Follows every slot; call after each `act`."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        slots = traffic.slots
        self.near, self.near_step = np.zeros(slots, bool), np.full(slots, NEVER)
        self.collision, self._struck, self._braking = (np.zeros(slots, bool) for _ in range(3))
        self._hard, self._from_step = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self._from_s, self._ttc = np.zeros(slots, np.float32), np.zeros(slots, np.float32)

    def begin(self, slot: int) -> None:
        for flags in (self.near, self.collision, self._struck, self._braking):
            flags[slot] = False
        self.near_step[slot], self._hard[slot], self._ttc[slot] = NEVER, 0, 99.0
        self._from_step[slot], self._from_s[slot] = self._traffic.steps[slot], self._traffic.s[slot]

    def judge(self) -> Array:
        """Look at every active slot; gives those whose drive is over."""
        traffic = self._traffic
        slots = np.flatnonzero(traffic.active)
        around = traffic.replay.at(slots, traffic.steps[slots])
        s, speed = traffic.s[slots], traffic.speed[slots]
        distance = around.s - s[:, None]
        reach = around.ego_half_length[:, None] + around.half_length
        overlap = (np.abs(distance) < reach) & around.touching
        ahead = (overlap & (distance > 0)).any(1)
        to_blame = ahead & (speed > STANDING_MPS)
        self.collision[slots] = to_blame
        self._struck[slots] = overlap.any(1) & ~to_blame
        self._danger(slots, *around.lead(s), speed)
        self._brake(slots)
        over = overlap.any(1) | (traffic.steps[slots] >= traffic.replay.last[slots])
        ended = slots[over]
        traffic.active[ended] = False
        return ended

    def _danger(self, slots: Array, gap: Array, lead_speed: Array, speed: Array) -> None:
        closing = speed - lead_speed
        real = (closing > 0.1) & (gap < 100)
        ttc = np.where(real, np.maximum(gap, 0) / np.maximum(closing, 0.1), 99.0)
        self._ttc[slots] = np.minimum(self._ttc[slots], ttc)
        fresh = slots[((ttc < NEAR_TTC_S) | self.collision[slots]) & ~self.near[slots]]
        self.near_step[fresh] = self._traffic.steps[fresh]
        self.near[fresh] = True

    def _brake(self, slots: Array) -> None:
        braking = self._traffic.accel[slots] < HARD_BRAKE_MPS2
        self._hard[slots] += braking & ~self._braking[slots]
        self._braking[slots] = braking

    def outcome(self, slot: int) -> Outcome:
        traffic, start = self._traffic, int(self._from_step[slot])
        human = traffic.replay.human[slot, :, 0]
        step = int(traffic.steps[slot])
        return Outcome(
            collision=bool(self.collision[slot]),
            near_miss=bool(self.near[slot]),
            rear_ended=bool(self._struck[slot]),
            hard_brakes=int(self._hard[slot]),
            distance_m=float(traffic.s[slot] - self._from_s[slot]),
            human_m=float(human[min(step, len(human) - 1)] - human[start]),
            duration_s=(step - start) * STEP_S,
            min_ttc_s=float(self._ttc[slot]),
            incident_step=int(self.near_step[slot]),
        )
