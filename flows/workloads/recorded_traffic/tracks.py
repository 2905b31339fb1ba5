"""Owns reading recorded tracks from CommonRoad scenario XML: who was where and when, nothing of the road.

Written here rather than taken from `commonroad-io`: that pins protobuf 3.20.2, which onnx (protobuf >= 4.25) cannot
live with, and we need four numbers a step of what it reads. Expat parses; entity declarations are refused.
"""

import pyexpat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flows.workloads.kit.types import Array, WorkloadError

STEP_S = 0.1
MAX_FILE_BYTES = 64 * 1024 * 1024
MIN_STATES, MAX_LIFE_STEPS = 5, 10_000
_SMOOTH_STEPS = 4.0  # of positions: recorded accelerations are noise without it
_SKIPPED = {"lanelet", "trafficSign", "trafficLight", "intersection", "planningProblem", "scenarioTags", "location"}


@dataclass(frozen=True)
class Track:
    """One recorded vehicle, every 0.1 s from `start` (in steps) on."""

    recording: str
    vehicle: str
    start: int
    x_m: Array
    y_m: Array
    heading_rad: Array
    vx_mps: Array
    vy_mps: Array
    length_m: float
    width_m: float

    @property
    def stop(self) -> int:
        return self.start + len(self.x_m)

    @property
    def name(self) -> str:
        return f"{self.recording}/{self.vehicle}"


@dataclass
class _Node:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: "list[_Node]" = field(default_factory=list)

    def find(self, path: str) -> "_Node | None":
        head, _, rest = path.partition("/")
        child = next((child for child in self.children if child.tag == head), None)
        return child.find(rest) if child is not None and rest else child

    def first(self, tag: str) -> "_Node | None":
        """The first descendant with this tag."""
        for child in self.children:
            found = child if child.tag == tag else child.first(tag)
            if found is not None:
                return found
        return None

    def number(self) -> float:
        """An exact value, the middle of an interval, or the plain text."""
        low, high = self.find("intervalStart"), self.find("intervalEnd")
        if low is not None and high is not None:
            return (float(low.text) + float(high.text)) / 2
        exact = self.find("exact")
        return float(self.text if exact is None else exact.text)


class _Tree:
    """Builds nodes of everything but the road, which is most of a file."""

    def __init__(self) -> None:
        self.root = _Node("", {})
        self._open = [self.root]
        self._skipping = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._skipping or tag in _SKIPPED:
            self._skipping += 1
            return
        node = _Node(tag, attributes)
        self._open[-1].children.append(node)
        self._open.append(node)

    def end(self, _tag: str) -> None:
        if self._skipping:
            self._skipping -= 1
        else:
            self._open.pop()

    def text(self, data: str) -> None:
        if not self._skipping:
            self._open[-1].text += data


def _refuse(*_: object) -> None:
    raise ValueError("declares entities")


def _parse(path: Path) -> _Node:
    tree, parser = _Tree(), pyexpat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = tree.text, _refuse
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    parser.Parse(path.read_bytes(), True)
    root = tree.root.find("commonRoad")
    if root is None:
        raise ValueError("is not a CommonRoad scenario")
    return root


def read_tracks(path: Path) -> list[Track]:
    """Read every recorded vehicle of one file."""
    try:
        root = _parse(path)
        step_s = float(root.attributes["timeStepSize"])
        tracks = [_track(path.stem, obstacle, step_s) for obstacle in _obstacles(root)]
    except (OSError, KeyError, ValueError, AttributeError, pyexpat.ExpatError) as error:
        raise WorkloadError(f"{path.name}: cannot be read: {error}") from error
    return [track for track in tracks if track is not None]


def _obstacles(root: _Node) -> Iterator[_Node]:
    for node in root.children:
        role = node.find("role")
        if node.tag == "dynamicObstacle" or (node.tag == "obstacle" and (role is None or role.text == "dynamic")):
            yield node


def _track(recording: str, obstacle: _Node, step_s: float) -> Track | None:
    box = obstacle.first("rectangle")
    states = [state for node in _state_nodes(obstacle) if (state := _state(node)) is not None]
    if box is None or len(states) < MIN_STATES:
        return None
    rows = np.array(sorted(states))
    at = rows[:, 0] * step_s / STEP_S
    if at[-1] - at[0] > MAX_LIFE_STEPS:
        raise ValueError(f"a vehicle lives for more than {MAX_LIFE_STEPS} steps")
    steps = np.arange(round(at[0]), round(at[-1]) + 1)
    x, y = (smooth(np.interp(steps, at, rows[:, column]), _SMOOTH_STEPS) for column in (1, 2))
    length, width = box.find("length"), box.find("width")
    return Track(
        recording=recording,
        vehicle=obstacle.attributes.get("id", "?"),
        start=int(steps[0]),
        x_m=x,
        y_m=y,
        heading_rad=np.interp(steps, at, np.unwrap(rows[:, 3])),
        vx_mps=np.gradient(x) / STEP_S,
        vy_mps=np.gradient(y) / STEP_S,
        length_m=length.number() if length else 4.5,
        width_m=width.number() if width else 1.8,
    )


def _state_nodes(obstacle: _Node) -> list[_Node]:
    first, path = obstacle.find("initialState"), obstacle.find("trajectory")
    nodes = [node for node in path.children if node.tag == "state"] if path else []
    return nodes if first is None else [first, *nodes]


def _state(node: _Node) -> tuple[float, float, float, float] | None:
    time, position, heading = node.find("time"), node.find("position"), node.find("orientation")
    if time is None or position is None or heading is None:
        return None
    point = position.find("point") or position.first("center")
    x, y = (point.find("x"), point.find("y")) if point else (None, None)
    if x is None or y is None:
        return None
    values = (time.number(), x.number(), y.number(), heading.number())
    if not np.isfinite(values).all():
        raise ValueError("a state has a number that is none")
    return values


def smooth(values: Array, sigma: float) -> Array:
    """Smooth with a Gaussian; the ends are mirrored through themselves, so that they stay where they are."""
    reach = min(int(3 * sigma), len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    before = 2 * values[0] - values[1 : reach + 1][::-1]
    after = 2 * values[-1] - values[-reach - 1 : -1][::-1]
    result: Array = np.convolve(np.concatenate([before, values, after]), kernel / kernel.sum(), "valid")
    return result
