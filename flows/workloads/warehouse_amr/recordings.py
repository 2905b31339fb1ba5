"""Owns what a robot's recording holds, written by the field and read by relabelling and regression suites.

`/observation`: what the model saw and commanded. `/state`: the robot's pose and the movers around it, as tracked by the
site. Both are fixed little-endian records. The metadata `scenario` stands for the site's map; `trigger` says why.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.workloads.kit.recordings import Recording, read_recording
from flows.workloads.kit.types import Array, WorkloadError
from flows.workloads.warehouse_amr.observation import SCANS, VECTOR
from flows.workloads.warehouse_amr.scenario import Scenario, from_json, to_json
from flows.workloads.warehouse_amr.simulation import Simulation, State
from flows.workloads.warehouse_amr.world import MOVERS, RAYS

OBSERVATION_TOPIC, STATE_TOPIC = "/observation", "/state"
ENCODING = "x-le-struct"
SAMPLE = "sample"  # the trigger of a clip recorded at random

OBSERVATION = np.dtype([("scan", "<f2", (SCANS, RAYS)), ("vec", "<f4", (VECTOR,)), ("cmd", "<f4", (2,))])
_MOTION = ("x", "y", "yaw", "speed", "turn")
_TRACKS = ("mover_x", "mover_y", "mover_vx", "mover_vy")
STATE = np.dtype([(name, "<f4") for name in _MOTION] + [(name, "<f4", (MOVERS,)) for name in _TRACKS])


def pack(simulation: Simulation, state: State, command: Array) -> tuple[Array, Array]:
    """This step's two records of every slot; `.tobytes()` of a row is a message."""
    seen, true = np.empty(simulation.slots, OBSERVATION), np.empty(simulation.slots, STATE)
    seen["scan"], seen["vec"], seen["cmd"] = simulation.scan, simulation.vector, command
    for name, values in vars(state).items():
        true[name] = values
    return seen, true


def scenario_metadata(scenario: Scenario) -> dict[str, str]:
    return {"json": json.dumps(to_json(scenario), separators=(",", ":"), allow_nan=False)}


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
