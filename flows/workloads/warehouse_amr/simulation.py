"""Owns the batched simulation: many robots, each in its own slot and mission, stepped together at 10 Hz.

A slot's mission depends on its scenario and the commands alone: noise is counter-based and every array operation is
row by row, so results are the same bits whatever runs in the other slots, and on however many threads.
"""

from dataclasses import dataclass

import numpy as np
from mjbatch import Batch

from flows.workloads.kit.noise import SlotNoise
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr import world
from flows.workloads.warehouse_amr.layout import Layout, OnRoute, on_route
from flows.workloads.warehouse_amr.observation import GOAL_CLIP_M, LOOK_M, VECTOR, ScanMemory
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.world import CONTROL_S, MOVERS, RANGE_M, RAY_ANGLES_RAD, RAYS, WHEEL_RADIUS_M

SPEED_UP_MPS2, SPEED_DOWN_MPS2, TURN_RADPS2 = 2.0, 2.5, 4.0  # the firmware's ramps
SLIP_KEPT = 0.985  # of the slip memory, per step
_RAY_HEIGHT_M = 0.3
_MIN_SPEED_MPS = -0.3


@dataclass
class State:
    """The true state of slots: what the simulator knows and the teacher may use."""

    x: Array
    y: Array
    yaw: Array
    speed: Array
    turn: Array
    mover_x: Array
    mover_y: Array
    mover_vx: Array
    mover_vy: Array

    def take(self, rows: Array) -> "State":
        return State(**{name: value[rows] for name, value in vars(self).items()})


class Simulation:
    """Slots of robots. Per step: `observe`, judge (elsewhere), `act` with a command for every slot."""

    def __init__(self, slots: int, threads: int = 1) -> None:
        self.slots = slots
        self.layout = Layout(slots)
        self.active = np.zeros(slots, bool)
        self.steps = np.zeros(slots, np.int64)
        self._batch = Batch(world.model(), slots, num_threads=threads)
        self._ctrl, self._qpos, self._qvel = (self._batch.bind(name) for name in ("ctrl", "qpos", "qvel"))
        self._mocap = self._batch.bind("mocap_pos")
        names = ("geom_pos", "geom_size", "geom_rbound", "geom_friction", "body_mass")
        self._field = {name: self._batch.expand(name) for name in names}
        self._noise = SlotNoise(slots, RAYS)
        self._memory = ScanMemory(slots)
        self._reset_arrays()

    def _reset_arrays(self) -> None:
        def zeros(*shape: int) -> Array:
            return np.zeros((self.slots, *shape), np.float32)

        self._mover_x, self._mover_y, self._walked_s = zeros(MOVERS), zeros(MOVERS), zeros(MOVERS)
        self._triggered = np.zeros((self.slots, MOVERS), bool)
        self._slip, self._command, self._ramp, self._before = zeros(), zeros(2), zeros(2), zeros(2, 2)
        self.scan, self.vector = zeros(3, RAYS), zeros(VECTOR)
        self.route: OnRoute = on_route(self.layout.route + np.array([[0, 0], [1, 0], [2, 0]]), zeros(), zeros(), LOOK_M)
        self._ranges = np.full((self.slots, RAYS), RANGE_M, np.float32)
        self._origins, self._directions = zeros(RAYS, 3), zeros(RAYS, 3)
        self._origins[:, :, 2] = _RAY_HEIGHT_M
        self.layout.route[:] = [(0, 0), (1, 0), (2, 0)]

    def load(self, slot: int, scenario: Scenario) -> None:
        """Put a fresh mission into a slot, whatever was there."""
        self.layout.put(slot, scenario)
        self._noise.load(slot, scenario.seed)
        self._place(slot, scenario)
        only = np.array([slot], np.int32)
        self._batch.reset(ids=only)
        self._batch.set_const(ids=only)
        self._qpos[slot, world.Y] = scenario.start_y_m
        for values in (self._walked_s, self._slip, self._command, self._ramp, self._before):
            values[slot] = 0
        self._triggered[slot] = False
        self._mover_x[slot], self._mover_y[slot] = self.layout.mover["x_m"][slot], self.layout.mover["y_m"][slot]
        self.steps[slot], self.active[slot] = 0, True

    def _place(self, slot: int, scenario: Scenario) -> None:
        boxes, first = self.layout.boxes[slot], world.geom_id("box0")
        box, mover = slice(first, first + world.BOXES), slice(world.geom_id("mover0"), world.geom_id("mover0") + MOVERS)
        size, bound = self._field["geom_size"][slot], self._field["geom_rbound"][slot]
        self._field["geom_pos"][slot, box, :2] = boxes[:, :2]
        self._field["geom_pos"][slot, box, 2] = 0.5
        size[box, :2] = boxes[:, 2:]
        size[mover, 0] = self.layout.mover["radius_m"][slot]
        bound[box] = np.sqrt((size[box] ** 2).sum(1))
        bound[mover] = np.hypot(size[mover, 0], size[mover, 1])
        self._field["geom_friction"][slot, world.geom_id("floor"), 0] = scenario.friction
        self._field["body_mass"][slot, world.base_id()] = world.ROBOT_MASS_KG - 4 + scenario.payload_kg

    def observe(self) -> State:
        """Look: fills `scan` and `vector` of every slot, and gives the true state."""
        x, y, yaw = (self._qpos[:, i].astype(np.float32) for i in (world.X, world.Y, world.YAW))
        cos, sin = np.cos(yaw), np.sin(yaw)
        speed = self._qvel[:, world.X] * cos + self._qvel[:, world.Y] * sin
        turn = self._qvel[:, world.YAW].astype(np.float32)
        self.route = on_route(self.layout.route, x, y, LOOK_M)
        progress = np.minimum(self.route.progress_m, self.layout.turn_x_m)
        self._triggered = progress[:, None] >= self.layout.mover["trigger_m"]
        mover_vx, mover_vy = self._mover_velocity()
        self._look(x, y, yaw)
        state = State(x, y, yaw, speed, turn, self._mover_x.copy(), self._mover_y.copy(), mover_vx, mover_vy)
        self._sense(state, cos, sin)
        return state

    def _mover_velocity(self) -> tuple[Array, Array]:
        mover, walked = self.layout.mover, self._walked_s
        pausing = (walked >= mover["pause_at_s"]) & (walked < mover["pause_at_s"] + mover["pause_s"])
        walks = self._triggered & (walked < mover["walk_s"] + mover["pause_s"]) & ~pausing
        return mover["vx_mps"] * walks, mover["vy_mps"] * walks

    def _look(self, x: Array, y: Array, yaw: Array) -> None:
        self._mocap[:, :, 0], self._mocap[:, :, 1], self._mocap[:, :, 2] = self._mover_x, self._mover_y, 0.5
        bearing = yaw[:, None] + RAY_ANGLES_RAD
        self._origins[:, :, 0], self._origins[:, :, 1] = x[:, None], y[:, None]
        self._directions[:, :, 0], self._directions[:, :, 1] = np.cos(bearing), np.sin(bearing)
        rays = self._origins, self._directions, self._ranges
        self._batch.rays(*rays, geomgroup=world.LIDAR_GROUPS, flg_static=True, ids=self.active)
        normal, uniform = self._noise.take(self.steps, self.active)
        ranges = np.where((self._ranges < 0) | (self._ranges > RANGE_M), np.float32(RANGE_M), self._ranges)
        ranges = ranges + normal * self.layout.range_noise_m[:, None]
        ranges = np.where(uniform < self.layout.dropout[:, None], np.float32(RANGE_M), ranges)
        pose = np.stack([x, y, yaw], 1)
        self._memory.push(np.clip(ranges, 0, RANGE_M), pose, self.active & (self.steps == 0))
        self.scan = self._memory.stack()

    def _sense(self, state: State, cos: Array, sin: Array) -> None:
        x, y, speed, turn = state.x, state.y, state.speed, state.turn
        wheels = (self._qvel[:, world.LEFT] + self._qvel[:, world.RIGHT]) * np.float32(WHEEL_RADIUS_M / 2)
        slipping = np.abs(wheels - speed)
        self._slip = np.maximum(self._slip * np.float32(SLIP_KEPT), np.minimum(slipping, 1))
        vector = self.vector
        for column, point, scale in ((0, self.route.ahead, LOOK_M), (2, self.route.far_ahead, 2 * LOOK_M)):
            dx, dy = point[:, 0] - x, point[:, 1] - y
            vector[:, column] = (dx * cos + dy * sin) / scale
            vector[:, column + 1] = (dy * cos - dx * sin) / scale
        vector[:, 4] = np.minimum(self.route.length_m - self.route.progress_m, GOAL_CLIP_M) / GOAL_CLIP_M
        vector[:, 5], vector[:, 6], vector[:, 7], vector[:, 8] = speed, turn, wheels, self._slip * 3
        vector[:, 9:11], vector[:, 11:13], vector[:, 13] = self._command, self._before[:, 1], slipping
        self._before[:, 1] = self._before[:, 0]
        self._before[:, 0, 0], self._before[:, 0, 1] = speed, turn

    def act(self, command: Array) -> None:
        """Drive every active slot for one control step with its command (m/s, rad/s)."""
        self._command[:, 0] = np.clip(command[:, 0], _MIN_SPEED_MPS, world.MAX_SPEED_MPS)
        self._command[:, 1] = np.clip(command[:, 1], -world.MAX_TURN_RADPS, world.MAX_TURN_RADPS)
        change = self._command - self._ramp
        self._ramp[:, 0] += np.clip(change[:, 0], -SPEED_DOWN_MPS2 * CONTROL_S, SPEED_UP_MPS2 * CONTROL_S)
        self._ramp[:, 1] += np.clip(change[:, 1], -TURN_RADPS2 * CONTROL_S, TURN_RADPS2 * CONTROL_S)
        half = self._ramp[:, 1] * world.HALF_TRACK_M
        self._ctrl[:, 0] = (self._ramp[:, 0] - half) / WHEEL_RADIUS_M
        self._ctrl[:, 1] = (self._ramp[:, 0] + half) / WHEEL_RADIUS_M
        self._batch.step(ids=self.active, nstep=world.SUBSTEPS)
        self._walk()
        self.steps += self.active

    def _walk(self) -> None:
        vx, vy = self._mover_velocity()
        step = (self.active * np.float32(CONTROL_S))[:, None]
        self._mover_x += vx * step
        self._mover_y += vy * step
        self._walked_s += self._triggered * step
