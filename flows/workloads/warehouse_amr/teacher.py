"""Owns the teacher: a dynamic-window planner that may know the true movers in sight, the friction and the mass.

It answers "what should have been done here?", live in the simulator and for states read back from recordings.
"""

from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.layout import Layout, on_route
from flows.workloads.warehouse_amr.simulation import SPEED_UP_MPS2, State
from flows.workloads.warehouse_amr.world import (
    FAR_M,
    MAX_SPEED_MPS,
    MAX_TURN_RADPS,
    ROBOT_MASS_KG,
    ROBOT_RADIUS_M,
    WHEEL_RADIUS_M,
    WHEEL_TORQUE_NM,
    line_of_sight,
)

_SPEEDS = np.array([0, 0.25, 0.5, 0.8, 1.1, 1.3, 1.5], np.float32)
_TURNS = np.array([-0.9, -0.5, -0.25, -0.1, 0, 0.1, 0.25, 0.5, 0.9], np.float32)
_SPEED = np.repeat(_SPEEDS, len(_TURNS))[None]
_TURN = np.tile(_TURNS, len(_SPEEDS))[None]
_STEP_S, _STEPS, _RACK_STEPS, _TURN_STEPS = 0.2, 14, 8, 5
_MOVER_MARGIN_M, _RACK_MARGIN_M = 0.32, 0.06
_COMFORT_M, _RACK_COMFORT_M = 0.7, 0.3
_CORNER_STOP_M = 0.55  # within this it must be able to stop at a blind opening
_TEMPERATURE = 0.06
_LOOK_M = 1.3
_GRAVITY = 9.81

_CELL_M, _LEFT_M, _BOTTOM_M, _COLUMNS, _ROWS = 0.1, -2.0, -9.0, 270, 180


class Clearances:
    """For each slot a grid of the distance to the nearest box: looking up is much cheaper than measuring."""

    def __init__(self, layout: Layout) -> None:
        self._grid = np.zeros((layout.slots, _COLUMNS, _ROWS), np.float32)
        self._layout = layout

    def fill(self, slot: int) -> None:
        x = (_LEFT_M + _CELL_M * (np.arange(_COLUMNS, dtype=np.float32) + 0.5)).astype(np.float32)
        y = (_BOTTOM_M + _CELL_M * (np.arange(_ROWS, dtype=np.float32) + 0.5)).astype(np.float32)
        grid = np.full((_COLUMNS, _ROWS), 9.0, np.float32)
        for centre_x, centre_y, half_x, half_y in self._layout.boxes[slot]:
            if centre_y >= FAR_M - 1:
                continue
            dx, dy = (np.abs(x - centre_x) - half_x)[:, None], (np.abs(y - centre_y) - half_y)[None]
            outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
            np.minimum(grid, outside + np.minimum(np.maximum(dx, dy), 0), out=grid)
        self._grid[slot] = grid

    def at(self, slots: Array, x: Array, y: Array) -> Array:
        column = np.clip(((x - _LEFT_M) * (1 / _CELL_M)).astype(np.int32), 0, _COLUMNS - 1)
        row = np.clip(((y - _BOTTOM_M) * (1 / _CELL_M)).astype(np.int32), 0, _ROWS - 1)
        found: Array = self._grid.reshape(-1)[(slots * _COLUMNS + column) * _ROWS + row]
        return found


@dataclass(frozen=True)
class Scene:
    """Where states are: the row of `slots` says in which slot of the layout each state is."""

    layout: Layout
    clearances: Clearances
    slots: Array


@dataclass
class _Plans:
    """All candidate motions of all asked states, (n, 63) each, while they are rolled out."""

    x: Array
    y: Array
    yaw: Array
    speed: Array
    cost: Array
    hit: Array


def teach(state: State, scene: Scene) -> Array:
    """Give the command (speed, turn) that should be taken in each state."""
    routes = scene.layout.route[scene.slots]
    reach = _acceleration(scene)
    turn = _turn_candidates(state, scene, reach)
    plans = _roll_out(_visible_movers(state, scene), scene, reach, turn)
    route = np.repeat(routes, _SPEED.size, 0)
    start = on_route(routes, state.x, state.y, _LOOK_M)
    end = on_route(route, plans.x.reshape(-1), plans.y.reshape(-1), 1.0)
    progress = end.progress_m.reshape(plans.x.shape) - start.progress_m[:, None]
    cost = plans.cost + plans.hit - 2.0 * progress / (MAX_SPEED_MPS * _STEP_S * _STEPS)
    cost += 0.5 * end.aside_m.reshape(plans.x.shape) + 0.06 * np.abs(_TURN)
    cost += 4.0 * np.maximum(0, _SPEED - _speed_cap(state, scene, reach)[:, None] - 0.05)
    return _blend(cost, plans.hit, turn)


def _acceleration(scene: Scene) -> Array:
    layout, slots = scene.layout, scene.slots
    grip = 0.85 * layout.friction[slots] * _GRAVITY
    motor = 0.9 * 2 * WHEEL_TORQUE_NM / WHEEL_RADIUS_M / (layout.payload_kg[slots] + ROBOT_MASS_KG)
    limit: Array = np.minimum(np.minimum(grip, motor), SPEED_UP_MPS2).astype(np.float32)
    return limit


def _turn_candidates(state: State, scene: Scene, reach: Array) -> Array:
    """Turns around the one that leads back to the route, as far as the floor allows."""
    ahead = on_route(scene.layout.route[scene.slots], state.x, state.y, _LOOK_M).ahead
    cos, sin = np.cos(state.yaw), np.sin(state.yaw)
    dx, dy = ahead[:, 0] - state.x, ahead[:, 1] - state.y
    to_route = 2.2 * np.arctan2(dy * cos - dx * sin, np.maximum(dx * cos + dy * sin, -0.2))
    turn = np.clip(np.clip(to_route, -MAX_TURN_RADPS, MAX_TURN_RADPS)[:, None] + _TURN, -MAX_TURN_RADPS, MAX_TURN_RADPS)
    limit = np.minimum(MAX_TURN_RADPS, reach / np.maximum(np.abs(state.speed), 0.3))[:, None]
    allowed: Array = np.clip(turn, -limit, limit).astype(np.float32)
    return allowed


def _visible_movers(state: State, scene: Scene) -> State:
    """Movers that are hidden are as if they were not there: a label must be something the student could know."""
    layout, slots = scene.layout, scene.slots
    targets = np.stack([state.mover_x, state.mover_y], 2)
    seen = line_of_sight(layout.boxes[slots], state.x, state.y, targets, layout.mover["radius_m"][slots])
    return State(**{**vars(state), "mover_x": np.where(seen, state.mover_x, np.float32(900.0))})


def _roll_out(state: State, scene: Scene, reach: Array, turn: Array) -> _Plans:
    def wide(values: Array) -> Array:
        return np.repeat(values[:, None].astype(np.float32), _SPEED.size, 1)

    nothing = [np.zeros_like(turn) for _ in ("cost", "hit")]
    plans = _Plans(*(wide(values) for values in (state.x, state.y, state.yaw, state.speed)), *nothing)
    radius = (scene.layout.mover["radius_m"][scene.slots] + np.float32(ROBOT_RADIUS_M))[:, :, None]
    most = reach[:, None] * np.float32(_STEP_S)
    for step in range(_STEPS):
        change = np.clip(_SPEED - plans.speed, -most, most)
        mean = plans.speed + change / 2
        plans.speed = plans.speed + change
        plans.yaw = plans.yaw + (turn if step < _TURN_STEPS else turn * np.float32(0.5)) * np.float32(_STEP_S)
        plans.x = plans.x + mean * np.cos(plans.yaw) * np.float32(_STEP_S)
        plans.y = plans.y + mean * np.sin(plans.yaw) * np.float32(_STEP_S)
        _charge_movers(plans, state, radius, step, np.abs(mean))
        if step < _RACK_STEPS:
            gap = scene.clearances.at(scene.slots[:, None], plans.x, plans.y) - np.float32(ROBOT_RADIUS_M)
            plans.hit = np.maximum(plans.hit, np.where(gap < _RACK_MARGIN_M, 4.0 * _discount(step), 0))
            plans.cost += 0.5 * np.maximum(0, _RACK_COMFORT_M - gap)
    return plans


def _discount(step: int) -> np.float32:
    return np.float32(1.0 - 0.03 * step)


def _charge_movers(plans: _Plans, movers: State, radius: Array, step: int, pace: Array) -> None:
    """Charge coming close to where movers will be if they go on as they go."""
    time = np.float32((step + 1) * _STEP_S)
    dx = plans.x[:, None] - (movers.mover_x + movers.mover_vx * time)[:, :, None]
    dy = plans.y[:, None] - (movers.mover_y + movers.mover_vy * time)[:, :, None]
    gap = (np.sqrt(dx * dx + dy * dy) - radius).min(1)
    discount = _discount(step)
    close = np.where((gap < _MOVER_MARGIN_M) & (pace > 0.05), (3.0 + 2.0 * pace) * discount, 0)
    touch = np.where(gap < 0.05, 1.5 * discount, 0)
    plans.hit = np.maximum(plans.hit, (close + touch).astype(np.float32))
    plans.cost += 0.25 * np.maximum(0, _COMFORT_M - gap) * discount * (0.3 + pace)


def _speed_cap(state: State, scene: Scene, reach: Array) -> Array:
    """Slow down before blind openings and before the turn."""
    layout, slots = scene.layout, scene.slots
    to_opening = layout.openings_m[slots] - state.x[:, None]
    near = (to_opening > -0.3) & (to_opening < 3.0)
    blind = near.any(1) & (np.abs(state.y) < 1.6)
    nearest = np.where(to_opening > -0.3, to_opening, 9).min(1)
    brake = 0.8 * reach
    at_corner = np.sqrt(2 * brake * (_CORNER_STOP_M + np.maximum(nearest - 1.5, 0)))
    to_turn = np.where(layout.turns[slots], layout.route[slots, 1, 0] - state.x - 0.8, 99)
    at_turn = np.sqrt(np.minimum(reach, 1.6) * 0.75 + 1.4 * brake * np.maximum(to_turn, 0))
    cap: Array = np.minimum(np.where(blind, at_corner, 9), np.where(to_turn > -1.5, at_turn, 9))
    return cap


def _blend(cost: Array, hit: Array, turn: Array) -> Array:
    """The soft best of the candidates that are no more dangerous than the best: smooth labels teach better."""
    best = cost.argmin(1)[:, None]
    share = np.exp(-(cost - np.take_along_axis(cost, best, 1)) / _TEMPERATURE)
    share *= hit <= np.take_along_axis(hit, best, 1) + 0.01
    share /= share.sum(1, keepdims=True)
    return np.stack([(share * _SPEED).sum(1), (share * turn).sum(1)], 1).astype(np.float32)
