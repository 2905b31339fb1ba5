"""Recordings that describe themselves, of a robot that is none of our workloads': it drives past a person."""

import io
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from mcap.writer import Writer

RAYS = 24
POSE = struct.Struct("<4dH")
SEEN = struct.Struct(f"<{RAYS}H2f")
PEOPLE = struct.Struct("<4f")
STEP_NS = 100_000_000

LAYOUTS: dict[str, dict[str, Any]] = {
    "/pose": {
        "schema": "fleetloop.layout/v1",
        "fields": [{"name": "pose", "type": "f8", "shape": [4]}, {"name": "battery", "type": "u2", "unit": "mV"}],
        "replay": {
            name: {"field": "pose", "take": [place]}
            for place, name in enumerate(("x_m", "y_m", "yaw_rad", "speed_mps"))
        },
    },
    "/seen": {
        "schema": "fleetloop.layout/v1",
        "fields": [
            {"name": "scan", "type": "u2", "shape": [RAYS], "unit": "mm"},
            {"name": "asked", "type": "f4", "shape": [2]},
        ],
        "replay": {"ranges_m": {"field": "scan", "scale": 0.001}, "command": "asked"},
    },
    "/people": {
        "schema": "fleetloop.layout/v1",
        "fields": [{"name": "people", "type": "f4", "shape": [2, 2]}],
        "replay": {
            "movers_x_m": {"field": "people", "take": [0]},
            "movers_y_m": {"field": "people", "take": [1]},
        },
    },
}
SCENE: dict[str, Any] = {
    "world": {"rectangles": [[5, 3, 6, 1], [5, -3, 6, 1]], "polylines": [[[-1, -4], [-1, 4]]]},
    "robot": {"radius_m": 0.3, "range_m": 8.0, "ray_span_rad": [-2.0, 2.0]},
    "movers_radius_m": [0.3, 0],
}


def messages_at(place: int) -> dict[str, bytes]:
    """What the robot writes down a tenth of a second after the last: it comes along the aisle, a person crosses."""
    x_m, person_y_m = 0.1 * place, 1.5 - 0.02 * place
    ranges = [min(8000, int(2000 / max(abs(math.sin(-2 + 4 * i / (RAYS - 1))), 0.25))) for i in range(RAYS)]
    return {
        "/pose": POSE.pack(x_m, 0.05 * math.sin(place / 5), 0.01 * math.cos(place / 5), 1.0, 24_000),
        "/seen": SEEN.pack(*ranges, 1.0, 0.1 * math.cos(place / 5)),
        "/people": PEOPLE.pack(4.0, 90.0, person_y_m, 90.0),
    }


def described(
    steps: int = 60,
    *,
    salt: str = "",
    layouts: Mapping[str, Any] = LAYOUTS,
    scene: Any = SCENE,
    triggered: int | None = 40,
    payloads: Mapping[str, bytes] | None = None,
    step_ns: int = STEP_NS,
) -> bytes:
    """Return a recording; `layouts` and `scene` may be anything that is to be tried, bytes as they are."""
    file = io.BytesIO()
    writer = Writer(file)
    writer.start(library=f"test {salt}")
    channels = {topic: _channel(writer, topic, layout) for topic, layout in layouts.items()}
    for place in range(steps):
        for topic, payload in {**messages_at(place), **(payloads or {})}.items():
            if topic in channels:
                writer.add_message(channels[topic], place * step_ns, payload, place * step_ns)
    if scene is not None:
        writer.add_metadata("replay", {"json": scene if isinstance(scene, str) else json.dumps(scene)})
    if triggered is not None:
        writer.add_metadata("fleetloop", {"triggered_at_ns": str(triggered * STEP_NS)})
    writer.finish()
    return file.getvalue()


def _channel(writer: Any, topic: str, layout: Any) -> int:
    data = layout if isinstance(layout, bytes) else json.dumps(layout).encode()
    schema = writer.register_schema(topic, "x-le-struct", data)
    return int(writer.register_channel(topic, "x-le-struct", schema))
