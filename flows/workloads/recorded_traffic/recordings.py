"""Owns what a device's recording holds: what the model saw and did, and where in the replayed traffic it was."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.workloads.kit.layouts import Topic, layout_of
from flows.workloads.kit.recordings import Recording, read_recording
from flows.workloads.kit.types import Array, WorkloadError
from flows.workloads.recorded_traffic.cases import library
from flows.workloads.recorded_traffic.world import OBSERVATION, Scenario, from_json, to_json

OBSERVATION_TOPIC, STATE_TOPIC = "/observation", "/state"
SAMPLE = "sample"  # the trigger of a clip recorded at random

SEEN = np.dtype([("obs", "<f4", (OBSERVATION,)), ("accel", "<f4")])
STATE = np.dtype([("step", "<i4"), ("s", "<f4"), ("speed", "<f4")])

# A car knows how far it is along its path, not where that is: nothing of this can be drawn from above.
TOPICS = {
    OBSERVATION_TOPIC: Topic("recorded_traffic.Observation", layout_of(SEEN, {"accel": "m/s^2"})),
    STATE_TOPIC: Topic("recorded_traffic.State", layout_of(STATE, {"s": "m", "speed": "m/s"})),
}


def scenario_metadata(scenario: Scenario) -> dict[str, str]:
    return {"json": json.dumps(to_json(scenario), separators=(",", ":"), allow_nan=False)}


@dataclass(frozen=True)
class Clip:
    cluster: str
    kind: str
    scenario: Scenario
    step: Array
    s: Array
    speed: Array

    @property
    def is_incident(self) -> bool:
        return self.kind != SAMPLE


def clip(path: Path) -> Clip:
    """Read one recording of a device of this workload."""
    recording = read_recording(path)
    trigger = recording.meta("trigger")
    scenario = _scenario(recording)
    state = _states(recording, library()[scenario.case].steps)
    return Clip(
        cluster=trigger.get("event_id") or path.stem,
        kind=trigger.get("kind", SAMPLE),
        scenario=scenario,
        step=state["step"].astype(np.int64),
        s=state["s"].astype(np.float32),
        speed=state["speed"].astype(np.float32),
    )


def _scenario(recording: Recording) -> Scenario:
    try:
        value = json.loads(recording.meta("scenario")["json"])
    except (KeyError, ValueError) as error:
        raise WorkloadError(f"{recording.name}: its scenario is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WorkloadError(f"{recording.name}: its scenario is not an object")
    return from_json(value, recording.name)


def _states(recording: Recording, steps: int) -> Array:
    payloads = recording.payloads(STATE_TOPIC)
    if any(len(payload) != STATE.itemsize for payload in payloads):
        raise WorkloadError(f"{recording.name}: a message on {STATE_TOPIC} is not {STATE.itemsize} bytes long")
    states = np.frombuffer(b"".join(payloads), STATE)
    possible = (states["step"] >= 0) & (states["step"] < steps) & (states["speed"] >= 0) & (states["speed"] < 100)
    if not (possible & (np.abs(states["s"]) < 1e4)).all():
        raise WorkloadError(f"{recording.name}: {STATE_TOPIC} has an impossible state")
    return states
