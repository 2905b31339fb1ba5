"""Owns what a scenario is: the parameters of one mission, as JSON for suites and recordings, checked when read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from flows.workloads.kit.types import Json, WorkloadError
from flows.workloads.warehouse_amr.world import MOVERS

CLEAR_M = 0.05
MAX_PALLETS = 3
OPENINGS = 3


@dataclass(frozen=True)
class Mover:
    """A person or forklift. It starts to walk when the robot has come `trigger_m` along its route."""

    kind: str
    x_m: float
    y_m: float
    vx_mps: float = 0.0
    vy_mps: float = 0.0
    radius_m: float = 0.3
    trigger_m: float = 0.0
    walk_s: float = 0.0
    pause_at_s: float = 0.0
    pause_s: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """One mission. `turn_opening` 0: straight on; 1..3: turn into that cross aisle, to `turn_side`."""

    site: str
    seed: int
    aisle_width_m: float
    opening_x_m: tuple[float, ...]
    opening_width_m: tuple[float, ...]
    pallets: tuple[tuple[float, float, float, float], ...]  # x, y, half length, half width
    turn_opening: int
    turn_side: int
    friction: float
    payload_kg: float
    range_noise_m: float
    dropout: float
    start_y_m: float
    movers: tuple[Mover, ...]

    @property
    def tags(self) -> list[str]:
        kinds = sorted({mover.kind for mover in self.movers})
        floor = "wet" if self.friction < 0.3 else "dry"
        return [f"site:{self.site}", f"floor:{floor}", *(f"mover:{kind}" for kind in kinds)]

    def with_seed(self, seed: int) -> "Scenario":
        return replace(self, seed=seed)


def to_json(scenario: Scenario) -> Json:
    return asdict(scenario)


def from_json(value: Mapping[str, Any], where: str) -> Scenario:
    """Read a scenario that may come from a device: known keys, finite numbers in physical bounds, no more things."""
    try:
        body = dict(value)
        body["movers"] = tuple(Mover(**mover) for mover in body["movers"])
        body["pallets"] = tuple(_floats(pallet, 4) for pallet in body["pallets"])
        for name in ("opening_x_m", "opening_width_m"):
            body[name] = _floats(body[name], OPENINGS)
        scenario = Scenario(**body)
        _check(scenario)
    except (KeyError, TypeError, ValueError) as error:
        raise WorkloadError(f"{where}: not a scenario of this workload: {error}") from error
    return scenario


def _floats(values: Sequence[Any], length: int) -> Any:
    if len(values) != length:
        raise ValueError(f"expected {length} numbers, found {len(values)}")
    return tuple(float(value) for value in values)


def _check(scenario: Scenario) -> None:
    if len(scenario.movers) > MOVERS or len(scenario.pallets) > MAX_PALLETS:
        raise ValueError("too many movers or pallets")
    if scenario.turn_opening not in range(OPENINGS + 1) or scenario.turn_side not in (-1, 1):
        raise ValueError("impossible turn")
    numbers = [*_numbers(asdict(scenario))]
    if not all(math.isfinite(number) and abs(number) <= 2**31 for number in numbers):
        raise ValueError("a number is infinite or absurd")
    if not 0.01 <= scenario.friction <= 2 or not 1.0 <= scenario.aisle_width_m <= 10:
        raise ValueError("friction or aisle width is out of bounds")
    if not 0 <= scenario.payload_kg <= 500 or not all(0.05 <= mover.radius_m <= 2 for mover in scenario.movers):
        raise ValueError("payload or mover size is out of bounds")


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [number for part in value.values() for number in _numbers(part)]
    if isinstance(value, str):
        return []
    if isinstance(value, Sequence):
        return [number for part in value for number in _numbers(part)]
    return [float(cast("float", value))]
