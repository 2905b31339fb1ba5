"""What a recording shows of a drive, seen from above, as far as it describes itself.

Nothing of a workload is known here: the layouts of its topics say where the quantities are, its metadata `replay` what
stands around and how the robot is drawn (docs/explanation/recordings.md).
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from agents.protocol.v1 import strict_json
from control_plane.kit.pages import Lenient
from control_plane.telemetry.domain.contents import ABOUT, SCENE, Contents, Kept, contents_of
from control_plane.telemetry.domain.layout import MAX_RANGES, MOVERS, POSE, Quantity, told
from control_plane.telemetry.domain.recording import RecordingError
from control_plane.telemetry.domain.scene import (
    MAX_MOVERS,
    MAX_RAYS,
    MAX_STEPS,
    RecordedReplay,
    ReplayRobot,
    ReplayStep,
    ReplayWorld,
)

MAX_SCENE_BYTES = 64 << 10
MAX_S = 86_400.0
STALE_S = 1.0
FARTHEST = 1e6
PLACES = 3  # millimetres and milliradians: finer than anybody sees
Rows = NDArray[np.float64]


class DescribedRobot(Lenient):
    """Rays by their bearings from the heading, or, where they are even, by the first and the last."""

    radius_m: float = Field(default=0.3, gt=0, le=FARTHEST)
    range_m: float = Field(default=0, ge=0, le=FARTHEST)
    ray_angles_rad: list[float] = Field(default_factory=list, max_length=MAX_RANGES)
    ray_span_rad: tuple[float, float] | None = None


class SceneFile(Lenient):
    """The metadata `replay`. `movers_radius_m` is for movers whose size no topic tells; 0 is one that is not there."""

    world: ReplayWorld = ReplayWorld()
    robot: DescribedRobot = DescribedRobot()
    movers_radius_m: list[float] = Field(default_factory=list, max_length=MAX_MOVERS)
    event_log_time_ns: Annotated[StrictInt, Field(ge=0, lt=2**64)] | None = None


@dataclass(frozen=True)
class _Frames:
    """The moments shown: seconds since the first, and by quantity a row for each; rows of NaN where it said nothing."""

    t_s: Rows
    begun_ns: int
    rows: dict[Quantity, Rows]


def replay_of(data: bytes, max_decoded_bytes: int) -> RecordedReplay:
    """Decode a recording into at most `MAX_STEPS` steps, spread evenly, the first and the last among them.

    Raises:
        RecordingError: as `inspect_recording`; or it does not describe itself, or does so wrongly.
    """
    contents = contents_of(data, max_decoded_bytes)
    missing = [quantity for quantity in POSE if quantity not in contents.sources]
    if missing:
        raise RecordingError(_undescribed(contents, missing))
    scene = _scene(contents)
    frames = _frames(contents.sources)
    rays, bearings = _rays(scene.robot, frames)
    steps = _steps(frames, scene, rays)
    robot = ReplayRobot(radius_m=scene.robot.radius_m, range_m=scene.robot.range_m, ray_angles_rad=bearings)
    return RecordedReplay(
        dt_s=_usual_step_s(frames.t_s),
        world=scene.world,
        robot=robot,
        steps=steps,
        triggered_t_s=_triggered(contents, scene, frames),
    )


def _undescribed(contents: Contents, missing: list[Quantity]) -> str:
    if contents.sources:
        return f"its layouts do not say where the robot was: {', '.join(missing)} is missing"
    binary = " Its binary topics have no layout, like those of older recorders." if contents.binary_topics else ""
    return f"this recording does not describe itself: no layout says where the robot was.{binary}"


def _scene(contents: Contents) -> SceneFile:
    text = contents.metadata.get(SCENE, {}).get("json")
    if text is None:
        return SceneFile()
    try:
        return SceneFile.model_validate(strict_json(text.encode(), MAX_SCENE_BYTES))
    except ValueError as error:
        raise RecordingError(f"its metadata {SCENE} is wrong: {told(error)}") from error


def _frames(sources: dict[Quantity, Kept]) -> _Frames:
    """Choose the moments from the topic that has `x_m`, and look everything else up as of then."""
    leading = sources["x_m"].rows
    if not leading:
        raise RecordingError(f"there is no message on {sources['x_m'].topic}")
    at_ns = [log_time_ns for log_time_ns, _ in leading]
    if at_ns[-1] - at_ns[0] > MAX_S * 1e9:
        raise RecordingError(f"it spans more than the {MAX_S:.0f} s that are shown")
    poses = [_as_of(at_ns, sources[quantity], quantity) for quantity in POSE]
    known = np.all([np.abs(values) <= FARTHEST for values in poses], axis=0)
    shown = [at_ns[place] for place in _spread(np.flatnonzero(known))]
    if not shown:
        raise RecordingError("at no time does it say where the robot was")
    rows = {quantity: _as_of(shown, kept, quantity) for quantity, kept in sources.items()}
    return _Frames(_since(shown, shown[0]), shown[0], rows)


def _since(at_ns: list[int], begun_ns: int) -> Rows:
    return np.array([(one - begun_ns) / 1e9 for one in at_ns], np.float64)


def _as_of(at_ns: list[int], kept: Kept, quantity: Quantity) -> Rows:
    """Return what a topic last said at each time; NaN where that is none, or too long ago to be shown as now."""
    messages = kept.rows
    said_ns = [log_time_ns for log_time_ns, _ in messages]
    place = [bisect_right(said_ns, one) - 1 for one in at_ns]
    known = [i >= 0 and one - said_ns[i] <= STALE_S * 1e9 for i, one in zip(place, at_ns, strict=True)]
    nothing = bytes(kept.layout.size)
    found = [messages[i][1] if so else nothing for i, so in zip(place, known, strict=True)]
    rows = kept.layout.values(quantity, found)
    rows[~np.array(known)] = np.nan
    return rows


def _spread(places: NDArray[np.intp]) -> NDArray[np.intp]:
    if len(places) <= MAX_STEPS:
        return places
    return places[np.linspace(0, len(places) - 1, MAX_STEPS).round().astype(np.intp)]


def _rays(robot: DescribedRobot, frames: _Frames) -> tuple[Rows | None, list[float]]:
    """Return at most `MAX_RAYS` of the rays and their bearings; a ray that met nothing reads the whole range."""
    ranges = frames.rows.get("ranges_m")
    if ranges is None or not (robot.ray_angles_rad or robot.ray_span_rad):
        return None, []
    count = ranges.shape[1]
    bearings = robot.ray_angles_rad or np.linspace(*(robot.ray_span_rad or (0.0, 0.0)), count).tolist()
    if len(bearings) != count:
        raise RecordingError(f"the robot has {len(bearings)} bearings for {count} ranges")
    chosen = np.linspace(0, count - 1, min(count, MAX_RAYS)).round().astype(int)
    met = np.isfinite(ranges) & (ranges >= 0) & (ranges <= robot.range_m)
    # A moment without any reading has no rays, rather than rays that met nothing.
    silent = np.isnan(ranges).all(1)
    shown = np.where(met, ranges, robot.range_m)[:, chosen]
    shown[silent] = np.nan
    return shown, [_round(bearings[place]) for place in chosen]


def _steps(frames: _Frames, scene: SceneFile, rays: Rows | None) -> list[ReplayStep]:
    poses = np.stack([frames.rows[quantity] for quantity in POSE], 1)
    movers = _movers(frames, scene)
    command = frames.rows.get("command")
    found = []
    for i, (x_m, y_m, yaw_rad, speed_mps) in enumerate(poses.tolist()):
        near = _there(movers[i]) if movers is not None else []
        reach = [math.hypot(x - x_m, y - y_m) - radius - scene.robot.radius_m for x, y, radius in near]
        found.append(
            ReplayStep(
                t_s=_round(frames.t_s[i]),
                x_m=_round(x_m),
                y_m=_round(y_m),
                yaw_rad=_round(yaw_rad),
                speed_mps=_round(speed_mps),
                movers=near,
                ranges_m=[] if rays is None or np.isnan(rays[i]).any() else [_round(r) for r in rays[i]],
                command=None if command is None else _pair(command[i]),
                clearance_m=_round(min(reach)) if reach else None,
            )
        )
    return found


def _movers(frames: _Frames, scene: SceneFile) -> Rows | None:
    """Return (moments, movers, [x, y, radius]); None where their places or sizes are not told."""
    x_m, y_m, radius = (frames.rows.get(quantity) for quantity in MOVERS)
    if radius is None and scene.movers_radius_m:
        radius = np.tile(np.array(scene.movers_radius_m, np.float64), (len(frames.t_s), 1))
    if x_m is None or y_m is None or radius is None:
        return None
    if not x_m.shape == y_m.shape == radius.shape:
        sizes = [values.shape[1] for values in (x_m, y_m, radius)]
        raise RecordingError(f"{', '.join(MOVERS)} are of {sizes} movers: they must be as many")
    return np.stack([x_m, y_m, radius], 2)


def _there(movers: Rows) -> list[tuple[float, float, float]]:
    """Leave out movers that are not there: without size, or without a place."""
    found = movers[(np.abs(movers) <= FARTHEST).all(1) & (movers[:, 2] > 0)]
    return [(_round(x), _round(y), _round(radius)) for x, y, radius in found.tolist()]


def _pair(values: Rows) -> tuple[float, float] | None:
    first, second = values.tolist()
    return (_round(first), _round(second)) if max(abs(first), abs(second)) <= FARTHEST else None


def _usual_step_s(t_s: Rows) -> float:
    usual = float(np.median(np.diff(t_s))) if len(t_s) > 1 else 0.1
    return max(_round(usual), 0.001)


def _triggered(contents: Contents, scene: SceneFile, frames: _Frames) -> float | None:
    """Return when what triggered it was: as its workload says, else when the recorder was told."""
    at_ns: Any = scene.event_log_time_ns
    if at_ns is None:
        said = contents.metadata.get(ABOUT, {}).get("triggered_at_ns", "")
        at_ns = int(said) if said.isascii() and said.isdigit() and len(said) <= 20 else None
    if at_ns is None:
        return None
    t_s = (at_ns - frames.begun_ns) / 1e9
    inside = -STALE_S <= t_s <= frames.t_s[-1] + STALE_S
    return _round(min(max(t_s, 0.0), frames.t_s[-1])) if inside else None


def _round(value: float) -> float:
    return round(float(value), PLACES) + 0.0
