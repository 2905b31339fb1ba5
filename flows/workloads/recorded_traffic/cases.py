"""Owns cases: one recorded vehicle as ego on its recorded path, everybody else replayed, all projected on that path."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from flows.workloads.kit.types import Array, WorkloadError
from flows.workloads.recorded_traffic.groups import group_of
from flows.workloads.recorded_traffic.tracks import STEP_S, Track, read_tracks, smooth

DATA_ENV = "FLEETLOOP_WORKLOAD_DATA"
MIN_LIFE_STEPS = 41
BEHIND_M, BEYOND_M = 60, 150  # how far the path is drawn on before its start and after its end
OFF_PATH_M = 1e3  # stands for: not here
_PATH_GAP_M = 0.5
_SPEED_SMOOTH_STEPS = 3.0
_ALONGSIDE_M = 3.0  # farther than this from the nearest path point along the path, a car is past its end
_OVERLAP_M = 0.1  # boxes are this much narrower when they collide: recorded positions are not better


@dataclass(frozen=True)
class Case:
    """What the simulator needs of one ego. Rows are steps, columns the other vehicles."""

    name: str
    group: str
    length_m: float
    width_m: float
    s_m: Array
    speed_mps: Array
    accel_mps2: Array
    other_s_m: Array
    other_side_m: Array
    other_speed_mps: Array
    other_half_length_m: Array
    other_half_width_m: Array
    curvature: Array

    @property
    def steps(self) -> int:
        return len(self.s_m)


@dataclass(frozen=True)
class _Path:
    x: Array
    y: Array
    s: Array
    heading: Array


def build(tracks: Sequence[Track]) -> list[Case]:
    """Make a case of every vehicle of one recording that lives long enough and overlaps nobody as recorded."""
    found = [_case(ego, tracks) for ego in tracks if len(ego.x_m) >= MIN_LIFE_STEPS]
    return [case for case in found if not _overlaps(case)]


def _case(ego: Track, tracks: Sequence[Track]) -> Case:
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(ego.x_m), np.diff(ego.y_m)))])
    path = _path(ego, travelled)
    speed = np.gradient(travelled) / STEP_S
    others = [other for other in tracks if other is not ego and other.stop > ego.start and other.start < ego.stop]
    seen = [_project(ego, other, path) for other in others] or [_nobody(ego)]
    s, side, pace, half_length, half_width = (np.stack(parts, 1) for parts in zip(*seen, strict=True))
    bend = np.gradient(np.convolve(np.pad(path.heading, 5, "edge"), np.ones(11) / 11, "valid"))
    return Case(
        name=ego.name,
        group=group_of(ego.recording) or ego.recording,
        length_m=ego.length_m,
        width_m=ego.width_m,
        s_m=travelled.astype(np.float32),
        speed_mps=speed.astype(np.float32),
        accel_mps2=(np.gradient(smooth(speed, _SPEED_SMOOTH_STEPS)) / STEP_S).astype(np.float32),
        other_s_m=s,
        other_side_m=side,
        other_speed_mps=pace,
        other_half_length_m=half_length,
        other_half_width_m=half_width,
        curvature=np.interp(np.arange(-BEHIND_M, 400), path.s, bend).astype(np.float32),
    )


def _path(ego: Track, travelled: Array) -> _Path:
    """The driven path, a point a metre, drawn straight on at both ends."""
    keep = [0]
    for i in range(1, len(travelled)):
        if travelled[i] - travelled[keep[-1]] > _PATH_GAP_M:
            keep.append(i)
    s = np.arange(0, travelled[keep[-1]] + 1e-6, 1.0)
    x, y = np.interp(s, travelled[keep], ego.x_m[keep]), np.interp(s, travelled[keep], ego.y_m[keep])
    first, last = _end_headings(ego, keep, float(travelled[-1]))
    before, after = np.arange(-BEHIND_M, 0, 1.0), np.arange(1, BEYOND_M + 1.0)
    xs = np.concatenate([x[0] + before * np.cos(first), x, x[-1] + after * np.cos(last)])
    ys = np.concatenate([y[0] + before * np.sin(first), y, y[-1] + after * np.sin(last)])
    heading = np.unwrap(np.arctan2(np.gradient(ys), np.gradient(xs)))
    return _Path(xs, ys, np.concatenate([before, s, s[-1] + after]), heading)


def _end_headings(ego: Track, keep: list[int], travelled_m: float) -> tuple[float, float]:
    if travelled_m <= 4.0:
        return float(ego.heading_rad[0]), float(ego.heading_rad[0])
    x, y = ego.x_m[keep], ego.y_m[keep]
    head, tail = min(4, len(x) - 1), -min(6, len(x))
    first = np.arctan2(y[head] - y[0], x[head] - x[0])
    return float(first), float(np.arctan2(y[-1] - y[tail], x[-1] - x[tail]))


def _nobody(ego: Track) -> tuple[Array, Array, Array, Array, Array]:
    def full(value: float) -> Array:
        return np.full(len(ego.x_m), value, np.float32)

    return full(OFF_PATH_M), full(OFF_PATH_M), full(0.0), full(2.5), full(1.0)


def _project(ego: Track, other: Track, path: _Path) -> tuple[Array, Array, Array, Array, Array]:
    """Where another vehicle is along and beside the ego's path, how fast along it, and its half box."""
    s, side, pace, half_length, half_width = _nobody(ego)
    start, stop = max(other.start, ego.start), min(other.stop, ego.stop)
    theirs, ours = slice(start - other.start, stop - other.start), slice(start - ego.start, stop - ego.start)
    dx, dy = other.x_m[theirs][:, None] - path.x, other.y_m[theirs][:, None] - path.y
    nearest = np.argmin(dx * dx + dy * dy, 1)
    rows, heading = np.arange(len(nearest)), path.heading[nearest]
    cos, sin = np.cos(heading), np.sin(heading)
    along = dx[rows, nearest] * cos + dy[rows, nearest] * sin
    aside = dy[rows, nearest] * cos - dx[rows, nearest] * sin
    s[ours] = path.s[nearest] + np.clip(along, -1, 1)
    side[ours] = np.where(np.abs(along) > _ALONGSIDE_M, OFF_PATH_M, aside)
    pace[ours] = other.vx_mps[theirs] * cos + other.vy_mps[theirs] * sin
    turn = other.heading_rad[theirs] - heading
    across, lengthwise = np.abs(np.sin(turn)), np.abs(np.cos(turn))
    half_length[ours] = (lengthwise * other.length_m + across * other.width_m) / 2
    half_width[ours] = (across * other.length_m + lengthwise * other.width_m) / 2
    return s, side, pace, half_length, half_width


def _overlaps(case: Case) -> bool:
    """Whether the recorded vehicle lay over another recorded box at any time: an error of the recording."""
    near = np.abs(case.other_s_m - case.s_m[:, None]) < case.length_m / 2 + case.other_half_length_m
    beside = np.abs(case.other_side_m) < case.width_m / 2 + case.other_half_width_m - _OVERLAP_M
    return bool((near & beside).any())


def from_step(case: Case, start: int) -> Case:
    """The same case, beginning later."""
    if start == 0:
        return case
    rows = {
        name: value[start:]
        for name, value in vars(case).items()
        if name.endswith(("_m", "_mps", "_mps2")) and isinstance(value, np.ndarray)
    }
    return Case(**{**vars(case), **rows})


@cache
def library(folder: str | None = None) -> dict[str, Case]:
    """All cases of the data folder the operator gave, by name."""
    root = folder or os.environ.get(DATA_ENV)
    if not root:
        raise WorkloadError(f"this workload needs recorded data: set {DATA_ENV} (`--data DIR`)")
    files = [path for path in sorted(Path(root).glob("*.xml")) if group_of(path.stem)]
    if not files:
        raise WorkloadError(f"{root}: holds none of the recordings this workload knows")
    return {case.name: case for path in files for case in build(read_tracks(path))}


def in_groups(groups: Iterable[str]) -> list[Case]:
    wanted = set(groups)
    return [case for case in library().values() if case.group in wanted]
