"""Owns how a recording describes itself, so that whoever reads it needs nothing of the workload.

The layout of a binary topic is its channel's schema; the world around and the robot are its metadata `replay`. The
format is open (docs/explanation/recordings.md): a robot that is no workload of ours writes the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from flows.workloads.kit.replays import World

ENCODING = "x-le-struct"
LAYOUT = "fleetloop.layout/v1"


class Topic(NamedTuple):
    """What a channel is declared with: the name of its schema, and the layout of its messages as JSON."""

    schema_name: str
    layout: bytes


@dataclass(frozen=True)
class Shown:
    """Where a quantity of a replay stands: a field, a part of it by its first indices, and its scale to our unit."""

    field: str
    take: Sequence[int] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class DrawnRobot:
    """A disc, and rays that are spread evenly from the first to the last bearing."""

    radius_m: float
    range_m: float
    ray_span_rad: tuple[float, float]


def layout_of(
    record: np.dtype[np.void], units: Mapping[str, str] | None = None, replay: Mapping[str, Shown] | None = None
) -> bytes:
    """Describe a packed little-endian record; `replay` says which quantity a reader finds where."""
    fields: Mapping[str, Any] = record.fields or {}
    body = {
        "schema": LAYOUT,
        "fields": [_field(name, fields[name][0], (units or {}).get(name, "")) for name in record.names or ()],
        "replay": {quantity: _shown(where) for quantity, where in (replay or {}).items()},
    }
    return _json({name: value for name, value in body.items() if value})


def _field(name: str, of: np.dtype[Any], unit: str) -> dict[str, Any]:
    shape = {"shape": list(of.shape)} if of.shape else {}
    return {"name": name, "type": of.base.str.lstrip("<|"), **shape, **({"unit": unit} if unit else {})}


def _shown(where: Shown) -> str | dict[str, Any]:
    told = {"take": list(where.take), "scale": where.scale}
    more = {name: value for name, value in told.items() if value not in ([], 1.0)}
    return {"field": where.field, **more} if more else where.field


def scene_metadata(
    world: World, robot: DrawnRobot, movers_radius_m: Sequence[float], event_log_time_ns: int | None = None
) -> dict[str, str]:
    """Describe what stands around and what drives; a mover of radius 0 is not there.

    `event_log_time_ns`: when it happened, where that is not when the recorder was told.
    """
    standing = {name: shapes for name, shapes in asdict(world).items() if shapes}
    body: dict[str, Any] = {"world": standing, "robot": asdict(robot), "movers_radius_m": list(movers_radius_m)}
    if event_log_time_ns is not None:
        body["event_log_time_ns"] = event_log_time_ns
    return {"json": _json(body).decode()}


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
