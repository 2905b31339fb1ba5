"""Owns the arrays of many scenarios side by side, one slot each, and how a route is followed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.replays import World, numbers
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.scenario import OPENINGS, Scenario
from flows.workloads.warehouse_amr.world import BOXES, FAR_M, MOVERS

_MOVER_FIELDS = ("x_m", "y_m", "vx_mps", "vy_mps", "radius_m", "trigger_m", "walk_s", "pause_at_s", "pause_s")
_AISLE_START_M, _AISLE_END_M, _RACK_DEPTH_M = -1.0, 24.0, 4.5
_STRAIGHT_GOAL_M, _TURN_DEPTH_M = 21.0, 3.0


class Layout:
    """What simulation and teacher know of each slot's scenario."""

    def __init__(self, slots: int) -> None:
        def zeros(*shape: int) -> Array:
            return np.zeros((slots, *shape), np.float32)

        self.slots = slots
        self.boxes = zeros(BOXES, 4)
        self.route = zeros(3, 2)
        self.turn_x_m = zeros()  # how far movers see the robot's progress count: to its turn, or the whole way
        self.turns = np.zeros(slots, bool)
        self.openings_m = zeros(OPENINGS)
        self.friction, self.payload_kg, self.range_noise_m, self.dropout, self.start_y_m = (zeros() for _ in range(5))
        self.mover = {name: zeros(MOVERS) for name in _MOVER_FIELDS}

    @classmethod
    def of(cls, scenarios: Sequence[Scenario]) -> "Layout":
        layout = cls(len(scenarios))
        for slot, scenario in enumerate(scenarios):
            layout.put(slot, scenario)
        return layout

    def put(self, slot: int, scenario: Scenario) -> None:
        self.boxes[slot] = _boxes(scenario)
        self.route[slot] = _route(scenario)
        self.turns[slot] = scenario.turn_opening > 0
        self.turn_x_m[slot] = self.route[slot, 1, 0] if scenario.turn_opening else _STRAIGHT_GOAL_M
        self.openings_m[slot] = scenario.opening_x_m
        for name in ("friction", "payload_kg", "range_noise_m", "dropout", "start_y_m"):
            getattr(self, name)[slot] = getattr(scenario, name)
        for name in _MOVER_FIELDS:
            self.mover[name][slot] = _absent(name)
            values = [getattr(mover, name) for mover in scenario.movers]
            self.mover[name][slot, : len(values)] = values


def world_of(scenario: Scenario) -> World:
    """Draw what stands: racks, walls and pallets."""
    boxes: Array = Layout.of([scenario]).boxes[0]
    return World([numbers(box) for box in boxes if box[1] < FAR_M], [])


def _absent(name: str) -> Array:
    if name == "x_m":
        return FAR_M / 2 + 5.0 * np.arange(MOVERS)
    return np.full(MOVERS, {"radius_m": 0.3, "trigger_m": 1e9}.get(name, 0.0))


def _boxes(scenario: Scenario) -> Array:
    boxes = np.zeros((BOXES, 4), np.float32)
    boxes[:, 1], boxes[:, 2:] = FAR_M, 0.1
    half = scenario.aisle_width_m / 2
    edges = [_AISLE_START_M]
    for centre, width in zip(scenario.opening_x_m, scenario.opening_width_m, strict=True):
        edges += [centre - width / 2, centre + width / 2]
    edges.append(_AISLE_END_M)
    depth = _RACK_DEPTH_M / 2
    racks = [
        ((start + stop) / 2, side * (half + depth), (stop - start) / 2, depth)
        for side in (1, -1)
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
    walls = [(-1.6, 0, 0.1, 8), (24.1, 0, 0.1, 8), (11, half + 6.5, 13, 0.1), (11, -half - 6.5, 13, 0.1)]
    found = [*racks, *walls, *scenario.pallets]
    boxes[: len(found)] = found
    return boxes


def _route(scenario: Scenario) -> Array:
    if not scenario.turn_opening:
        return np.array([(0, 0), (12, 0), (_STRAIGHT_GOAL_M, 0)], np.float32)
    x = scenario.opening_x_m[scenario.turn_opening - 1]
    end = scenario.turn_side * (scenario.aisle_width_m / 2 + _TURN_DEPTH_M)
    return np.array([(0, 0), (x, 0), (x, end)], np.float32)


@dataclass(frozen=True)
class OnRoute:
    """Where points are on their routes: progress, whole length, two points ahead, distance to the side."""

    progress_m: Array
    length_m: Array
    ahead: Array
    far_ahead: Array
    aside_m: Array


def on_route(route: Array, x: Array, y: Array, look_m: float) -> OnRoute:
    """Project points on two-legged routes and look `look_m` and twice that ahead."""
    start, corner, end = route[:, 0], route[:, 1], route[:, 2]
    leg1, leg2 = corner - start, end - corner
    length1, length2 = np.hypot(leg1[:, 0], leg1[:, 1]), np.hypot(leg2[:, 0], leg2[:, 1])
    unit1, unit2 = leg1 / length1[:, None], leg2 / length2[:, None]
    along1, aside1 = _project(start, unit1, length1, x, y)
    along2, aside2 = _project(corner, unit2, length2, x, y)
    second = aside2 < aside1 - 1e-6
    progress = np.where(second, length1 + along2, along1)
    length: Array = length1 + length2

    def at(distance: Array) -> Array:
        distance = np.clip(distance, 0, length)
        first = (distance < length1)[:, None]
        beyond = corner + unit2 * (distance - length1)[:, None]
        point: Array = np.where(first, start + unit1 * distance[:, None], beyond)
        return point

    aside = np.where(second, aside2, aside1)
    return OnRoute(progress, length, at(progress + look_m), at(progress + 2 * look_m), aside)


def _project(origin: Array, unit: Array, length: Array, x: Array, y: Array) -> tuple[Array, Array]:
    dx, dy = x - origin[:, 0], y - origin[:, 1]
    along = np.clip(dx * unit[:, 0] + dy * unit[:, 1], 0, length)
    aside: Array = np.hypot(dx - unit[:, 0] * along, dy - unit[:, 1] * along)
    return along, aside
