"""Owns what the model sees: a lidar scan with two earlier ones moved to now, and fourteen numbers about itself."""

import numpy as np

from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr.world import FIELD_OF_VIEW_RAD, RANGE_M, RAY_ANGLES_RAD, RAYS

SCANS = 3
VECTOR = 14
LAGS_STEPS = (2, 5)
DEPTH = max(LAGS_STEPS) + 1
GOAL_CLIP_M = 5.0
LOOK_M = 1.5

_STEP_RAD = float(RAY_ANGLES_RAD[1] - RAY_ANGLES_RAD[0])
_NONE = np.float32(99.0)

# How the vector changes when the world is mirrored left to right; scans flip.
MIRROR_VECTOR = np.array([1, -1, 1, -1, 1, 1, -1, 1, 1, 1, -1, 1, -1, 1], np.float32)
MIRROR_COMMAND = np.array([1, -1], np.float32)


class ScanMemory:
    """The last scans of every slot and where they were taken, as a ring."""

    def __init__(self, slots: int) -> None:
        self._ranges = np.full((DEPTH, slots, RAYS), RANGE_M, np.float32)
        self._poses = np.zeros((DEPTH, slots, 3), np.float32)
        self._head = 0

    def push(self, ranges_m: Array, pose: Array, first: Array) -> None:
        """Add this step's scan; a slot whose mission begins has seen nothing else before."""
        self._head = (self._head + 1) % DEPTH
        self._ranges[self._head], self._poses[self._head] = ranges_m, pose
        for slot in np.flatnonzero(first):
            self._ranges[:, slot], self._poses[:, slot] = ranges_m[slot], pose[slot]

    def stack(self) -> Array:
        """Give now and the lagged scans, the lagged ones as they would look from here, in units of the range."""
        now, pose = self._ranges[self._head], self._poses[self._head]
        scans = np.empty((len(now), SCANS, RAYS), np.float32)
        scans[:, 0] = now
        for i, lag in enumerate(LAGS_STEPS, start=1):
            at = (self._head - lag) % DEPTH
            scans[:, i] = moved(self._ranges[at], self._poses[at], pose, now)
        scans /= RANGE_M
        return scans


def moved(ranges_m: Array, taken: Array, here: Array, fallback: Array) -> Array:
    """Re-cast an older scan from the present pose; rays that nothing lands on take the present reading."""
    slots = len(ranges_m)
    bearing = RAY_ANGLES_RAD + taken[:, 2:3]
    dx = taken[:, :1] + ranges_m * np.cos(bearing) - here[:, :1]
    dy = taken[:, 1:2] + ranges_m * np.sin(bearing) - here[:, 1:2]
    angle = np.arctan2(dy, dx) - here[:, 2:3]
    angle -= np.float32(2 * np.pi) * np.rint(angle * np.float32(0.5 / np.pi))
    ray = np.rint((angle + np.float32(FIELD_OF_VIEW_RAD / 2)) * np.float32(1 / _STEP_RAD)).astype(np.int32)
    usable = (ranges_m < RANGE_M - 0.05) & (ray >= 0) & (ray < RAYS)
    cell = (np.arange(slots, dtype=np.int32)[:, None] * RAYS + ray)[usable]
    nearest = np.full(slots * RAYS, _NONE, np.float32)
    np.minimum.at(nearest, cell, np.sqrt(dx * dx + dy * dy)[usable])
    landed = nearest.reshape(slots, RAYS)
    return np.where(landed >= _NONE, fallback, np.minimum(landed, np.float32(RANGE_M)))
