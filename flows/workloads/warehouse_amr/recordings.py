"""Owns what a robot's recording holds, written by the field and read by relabelling and regression suites.

`/observation`: what the model saw and commanded. `/state`: the robot's pose and the movers around it, as tracked by the
site. Both are fixed little-endian records, whose layout the recording carries. The metadata `scenario` stands for the
site's map, `replay` draws it for whoever knows nothing of us, `trigger` says why.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.workloads.kit.layouts import DrawnRobot, Shown, Topic, layout_of, scene_metadata
from flows.workloads.kit.recordings import Recording, read_recording
from flows.workloads.kit.types import Array, WorkloadError
from flows.workloads.warehouse_amr.layout import world_of
from flows.workloads.warehouse_amr.observation import SCANS, VECTOR
from flows.workloads.warehouse_amr.scenario import Scenario, from_json, to_json
from flows.workloads.warehouse_amr.simulation import Simulation, State
from flows.workloads.warehouse_amr.world import MOVERS, RANGE_M, RAY_ANGLES_RAD, RAYS, ROBOT_RADIUS_M

OBSERVATION_TOPIC, STATE_TOPIC = "/observation", "/state"
SAMPLE = "sample"  # the trigger of a clip recorded at random

OBSERVATION = np.dtype([("scan", "<f2", (SCANS, RAYS)), ("vec", "<f4", (VECTOR,)), ("cmd", "<f4", (2,))])
_MOTION = ("x", "y", "yaw", "speed", "turn")
_TRACKS = ("mover_x", "mover_y", "mover_vx", "mover_vy")
STATE = np.dtype([(name, "<f4") for name in _MOTION] + [(name, "<f4", (MOVERS,)) for name in _TRACKS])

TOPICS = {
    OBSERVATION_TOPIC: Topic(
        "warehouse_amr.Observation",
        layout_of(
            OBSERVATION,
            {"scan": f"range / {RANGE_M:g} m", "cmd": "m/s, rad/s"},
            {"ranges_m": Shown("scan", [0], RANGE_M), "command": Shown("cmd")},
        ),
    ),
    STATE_TOPIC: Topic(
        "warehouse_amr.State",
        layout_of(
            STATE,
            {"turn": "rad/s", "mover_vx": "m/s", "mover_vy": "m/s"},
            {
                "x_m": Shown("x"),
                "y_m": Shown("y"),
                "yaw_rad": Shown("yaw"),
                "speed_mps": Shown("speed"),
                "movers_x_m": Shown("mover_x"),
                "movers_y_m": Shown("mover_y"),
            },
        ),
    ),
}


def pack(simulation: Simulation, state: State, command: Array) -> tuple[Array, Array]:
    """This step's two records of every slot; `.tobytes()` of a row is a message."""
    seen, true = np.empty(simulation.slots, OBSERVATION), np.empty(simulation.slots, STATE)
    seen["scan"], seen["vec"], seen["cmd"] = simulation.scan, simulation.vector, command
    for name, values in vars(state).items():
        true[name] = values
    return seen, true


def scenario_metadata(scenario: Scenario) -> dict[str, str]:
    return {"json": json.dumps(to_json(scenario), separators=(",", ":"), allow_nan=False)}


def scene_of(scenario: Scenario, event_log_time_ns: int | None = None) -> dict[str, str]:
    """Draw what stands in a scenario, and say how large each mover is; 0 where there is none."""
    radius = [mover.radius_m for mover in scenario.movers] + [0.0] * (MOVERS - len(scenario.movers))
    span = (round(float(RAY_ANGLES_RAD[0]), 3), round(float(RAY_ANGLES_RAD[-1]), 3))
    return scene_metadata(world_of(scenario), DrawnRobot(ROBOT_RADIUS_M, RANGE_M, span), radius, event_log_time_ns)


@dataclass(frozen=True)
class Clip:
    """One recording, understood."""

    cluster: str
    kind: str
    scenario: Scenario
    scan: Array
    vec: Array
    state: State

    @property
    def is_incident(self) -> bool:
        return self.kind != SAMPLE


def incident(path: Path) -> Clip:
    """Read one recording of a robot of this workload."""
    recording = read_recording(path)
    trigger = recording.meta("trigger")
    seen = _records(recording, OBSERVATION_TOPIC, OBSERVATION)
    true = _records(recording, STATE_TOPIC, STATE)
    if len(seen) != len(true):
        raise WorkloadError(f"{path.name}: {len(seen)} observations but {len(true)} states")
    state = State(**{name: true[name].astype(np.float32) for name in (*_MOTION, *_TRACKS)})
    return Clip(
        cluster=trigger.get("event_id") or path.stem,
        kind=trigger.get("kind", SAMPLE),
        scenario=_scenario(recording),
        scan=seen["scan"],
        vec=seen["vec"].astype(np.float32),
        state=state,
    )


def _scenario(recording: Recording) -> Scenario:
    try:
        value = json.loads(recording.meta("scenario")["json"])
    except (KeyError, ValueError) as error:
        raise WorkloadError(f"{recording.name}: its scenario is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WorkloadError(f"{recording.name}: its scenario is not an object")
    return from_json(value, recording.name)


def _records(recording: Recording, topic: str, layout: np.dtype[np.void]) -> Array:
    payloads = recording.payloads(topic)
    if any(len(payload) != layout.itemsize for payload in payloads):
        raise WorkloadError(f"{recording.name}: a message on {topic} is not {layout.itemsize} bytes long")
    records = np.frombuffer(b"".join(payloads), layout)
    for name in layout.names or ():
        if not np.isfinite(records[name]).all() or np.abs(records[name]).max(initial=0) > 1e4:
            raise WorkloadError(f"{recording.name}: {topic} has an impossible {name}")
    return records
