"""Replays as a workload writes them: a short drive past a person."""

import json
import math
from typing import Any

from tests.support.gatework import SIMULATOR, onnx_of
from tests.support.registry import upload
from tests.support.server import Server


def replay_body(model: str, scenario: str = "s3", incident: float = 0.0, **changes: Any) -> dict[str, Any]:
    steps = [_step(place / 10, 0.1 * place) for place in range(60)]
    steps[-1]["command"] = None
    return {
        "schema": "fleetloop.replay/v1",
        "suite": "nominal",
        "scenario": scenario,
        "model_sha256": model,
        "simulator": SIMULATOR,
        "dt_s": 0.1,
        "world": {"rectangles": [[5, 3, 6, 1], [5, -3, 6, 1]], "polylines": [[[-1, -4], [-1, 4]]]},
        "robot": {"radius_m": 0.3, "range_m": 8.0, "ray_angles_rad": [i / 10 - 1 for i in range(20)]},
        "steps": steps,
        "outcome": {"words": "reached its goal after 5.9 s", "metrics": {"incident": incident}},
    } | changes


def _step(t_s: float, x_m: float) -> dict[str, Any]:
    mover = (4.0, 1.5 - 0.2 * t_s)
    clearance = math.hypot(mover[0] - x_m, mover[1]) - 0.6
    return {
        "t_s": round(t_s, 1),
        "x_m": round(x_m, 3),
        "y_m": 0.0,
        "yaw_rad": 0.0,
        "speed_mps": 1.0,
        "movers": [[*mover, 0.3]],
        "ranges_m": [2.0] * 19 + [8.0],
        "command": [1.0, 0.1],
        "clearance_m": round(clearance, 3),
        "ttc_s": 2.5 if x_m < 3 else None,
    }


async def put_replay(
    server: Server, gate: dict[str, Any], version: dict[str, Any], side: str, scenario: str = "s3", **changes: Any
) -> Any:
    """Upload a replay and tell the control plane; gives the answer, whatever it is."""
    file = await upload(server, json.dumps(replay_body(onnx_of(version), scenario, **changes)).encode())
    body = {"suite": "nominal", "scenario": scenario, "side": side, "file": file}
    return await server.call("PUT", f"/gates/{gate['id']}/replays", json=body)
