"""Owns the definition of what happened: collision, near miss, stuck, hard brake, and when a mission is over."""

from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.types import Array, Json
from flows.workloads.warehouse_amr.simulation import Simulation, State
from flows.workloads.warehouse_amr.world import CONTROL_S, ROBOT_RADIUS_M, box_distance_m

DEFINITION = "warehouse-amr-metrics@1"

RUNNING, GOAL, HIT_MOVER, HIT_RACK, STUCK, STRUCK = range(6)
GOAL_M = 0.6
MOVING_MPS = 0.15  # below this a contact is not the robot's doing
NEAR_CLEARANCE_M, NEAR_TTC_S = 0.15, 0.5
TTC_WITHIN_M = 3.0
STUCK_STEPS, TIMEOUT_STEPS = 100, 400
PROGRESS_M = 0.1
HARD_BRAKE_MPS2 = 2.2
NEVER = -1


@dataclass(frozen=True)
class Outcome:
    """What one mission came to."""

    status: int
    near_miss: bool
    hard_brakes: int
    distance_m: float
    duration_s: float
    min_clearance_m: float
    min_ttc_s: float
    incident_step: int  # when it became an incident; NEVER if it did not

    @property
    def collision(self) -> bool:
        return self.status in (HIT_MOVER, HIT_RACK)

    @property
    def stuck(self) -> bool:
        return self.status == STUCK

    @property
    def kind(self) -> str | None:
        """The gravest event of the mission, one per mission."""
        if self.collision:
            return "collision"
        if self.near_miss:
            return "near_miss"
        return "stuck" if self.stuck else None

    def metrics(self) -> Json:
        return {
            "incident": int(self.kind is not None),
            "collision": int(self.collision),
            "near_miss": int(self.near_miss),
            "stuck": int(self.stuck),
            "struck_standing": int(self.status == STRUCK),
            "hard_brake": self.hard_brakes,
            "distance_m": round(self.distance_m, 4),
            "duration_s": round(self.duration_s, 1),
            "min_clearance_m": round(self.min_clearance_m, 4),
            "min_ttc_s": round(self.min_ttc_s, 4),
        }


class Judge:
    """Follows every slot of a simulation and ends missions that are over."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        slots = simulation.slots
        self.status = np.zeros(slots, np.int8)
        self.near_step, self.near = np.full(slots, NEVER), np.zeros(slots, bool)
        self.distance_m = np.zeros(slots, np.float64)
        self._clearance, self._ttc = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
        self._best, self._best_step = np.zeros(slots, np.float32), np.zeros(slots, np.int64)
        self._speed = np.zeros(slots, np.float32)
        self._braking, self._hard = np.zeros(slots, bool), np.zeros(slots, np.int64)

    def begin(self, slot: int) -> None:
        self.status[slot], self.near[slot], self.near_step[slot] = RUNNING, False, NEVER
        self._clearance[slot] = self._ttc[slot] = 9.0
        for values in (self.distance_m, self._best, self._best_step, self._speed, self._braking, self._hard):
            values[slot] = 0

    def judge(self, state: State) -> Array:
        """Look at every active slot after `observe`; gives the slots whose mission just ended."""
        sim, active = self._sim, self._sim.active
        clearance, ttc = self.dangers(state)
        moving = active & (np.abs(state.speed) > MOVING_MPS)
        self._clearance[active] = np.minimum(self._clearance, clearance)[active]
        self._ttc[moving] = np.minimum(self._ttc, ttc)[moving]
        fresh = moving & ((ttc < NEAR_TTC_S) | (clearance < NEAR_CLEARANCE_M)) & ~self.near
        self.near_step[fresh] = sim.steps[fresh]
        self.near |= fresh
        self._count(state, active)
        rack = box_distance_m(sim.layout.boxes, state.x, state.y) < ROBOT_RADIUS_M
        self._decide(clearance < 0, rack, np.abs(state.speed) > MOVING_MPS)
        ended = np.flatnonzero(active & (self.status != RUNNING))
        active[ended] = False
        return ended

    def dangers(self, state: State) -> tuple[Array, Array]:
        """Clearance to the nearest mover, and the time to collision if both went on as they go."""
        cos, sin = np.cos(state.yaw), np.sin(state.yaw)
        dx, dy = state.mover_x - state.x[:, None], state.mover_y - state.y[:, None]
        reach = self._sim.layout.mover["radius_m"] + np.float32(ROBOT_RADIUS_M)
        far = np.hypot(dx, dy)
        closing_x = state.mover_vx - (state.speed * cos)[:, None]
        closing_y = state.mover_vy - (state.speed * sin)[:, None]
        a = closing_x * closing_x + closing_y * closing_y + 1e-9
        b = dx * closing_x + dy * closing_y
        root = b * b - a * (far * far - reach * reach)
        ttc = np.where((root > 0) & (b < 0), (-b - np.sqrt(np.maximum(root, 0))) / a, 9.0)
        clearance = far - reach
        return clearance.min(1), np.where(clearance < TTC_WITHIN_M, ttc, 9.0).min(1)

    def _count(self, state: State, active: Array) -> None:
        braking = active & ((self._speed - state.speed) > HARD_BRAKE_MPS2 * CONTROL_S)
        self._hard += braking & ~self._braking
        self._braking = braking
        self.distance_m += np.where(active & (self._sim.steps > 0), np.abs(self._speed), 0) * CONTROL_S
        self._speed = np.where(active, state.speed, self._speed)

    def _decide(self, touch: Array, rack: Array, moving: Array) -> None:
        sim, active, route = self._sim, self._sim.active, self._sim.route
        ahead = route.progress_m > self._best + PROGRESS_M
        self._best = np.where(ahead, route.progress_m, self._best)
        self._best_step = np.where(ahead, sim.steps, self._best_step)
        goal = route.progress_m > route.length_m - GOAL_M
        late = (sim.steps - self._best_step > STUCK_STEPS) | (sim.steps >= TIMEOUT_STEPS)
        for happened, status in (
            (touch & moving, HIT_MOVER),
            (touch & ~moving, STRUCK),
            (rack, HIT_RACK),
            (goal, GOAL),
            (late, STUCK),
        ):
            self.status[active & happened & (self.status == RUNNING)] = status

    def outcome(self, slot: int) -> Outcome:
        status, step = int(self.status[slot]), int(self._sim.steps[slot])
        ended_badly = status in (HIT_MOVER, HIT_RACK, STUCK)
        first = int(self.near_step[slot]) if self.near[slot] else step if ended_badly else NEVER
        return Outcome(
            status=status,
            near_miss=bool(self.near[slot]),
            hard_brakes=int(self._hard[slot]),
            distance_m=float(self.distance_m[slot]),
            duration_s=step * CONTROL_S,
            min_clearance_m=float(self._clearance[slot]),
            min_ttc_s=float(self._ttc[slot]),
            incident_step=first,
        )
