"""Owns the privileged teacher: it knows the recorded future, and picks the best acceleration to hold for 1.5 s."""

import numpy as np

from flows.workloads.kit.types import Array
from flows.workloads.recorded_traffic.tracks import STEP_S
from flows.workloads.recorded_traffic.world import Replay

_CANDIDATES = np.concatenate([np.linspace(-6, -1, 11), np.linspace(-0.75, 2.5, 14)]).astype(np.float32)
_HORIZON_STEPS, _HOLD_STEPS, _EVERY = 30, 15, 2
_ROWS = 512  # states planned at once: bounds memory
_TOUCH_M = 0.3


def plan(replay: Replay, slots: Array, steps: Array, s: Array, speed: Array) -> Array:
    """Give the acceleration that should be taken in each state."""
    cuts = [slice(start, start + _ROWS) for start in range(0, len(slots), _ROWS)]
    parts = [_plan(replay, slots[cut], steps[cut], s[cut], speed[cut]) for cut in cuts]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _plan(replay: Replay, slots: Array, steps: Array, s: Array, speed: Array) -> Array:
    shape = (len(slots), len(_CANDIDATES))
    at, pace = np.broadcast_to(s[:, None], shape), np.broadcast_to(speed[:, None], shape)
    cost = np.broadcast_to(0.15 * _CANDIDATES**2, shape).copy()
    for ahead in range(1, _HORIZON_STEPS + 1):
        push = _CANDIDATES if ahead <= _HOLD_STEPS else np.zeros_like(_CANDIDATES)
        faster = np.maximum(pace + push * np.float32(STEP_S), 0)
        at, pace = at + (pace + faster) / 2 * np.float32(STEP_S), faster
        if ahead % _EVERY == 0:
            alive = (steps + ahead <= replay.last[slots])[:, None]
            cost += np.where(alive, _cost(replay, slots, steps + ahead, at, pace), 0)
    best: Array = _CANDIDATES[cost.argmin(1)]
    return best


def _cost(replay: Replay, slots: Array, steps: Array, at: Array, pace: Array) -> Array:
    """What being there then costs: touching, closing fast, following closely, and not driving as the human did."""
    around = replay.at(slots, steps)
    distance = around.s[:, None, :] - at[:, :, None]
    gap = distance - around.ego_half_length[:, None, None] - around.half_length[:, None, :]
    gap = np.where(around.in_way[:, None, :] & (distance > 0), gap, np.float32(1e3))
    nearest = gap.argmin(2)
    gap = np.take_along_axis(gap, nearest[:, :, None], 2)[:, :, 0]
    closing = pace - np.take_along_axis(around.speed, nearest, 1)
    ttc = np.where((closing > 0.1) & (gap < 100), np.maximum(gap, 0) / np.maximum(closing, 0.1), 99)
    human = replay.human[slots, np.minimum(steps, replay.steps - 1)]
    cost = 50 * (gap < _TOUCH_M) + 6 * np.clip(2.0 - ttc, 0, 2) + 4 * np.clip(1.5 + 0.5 * pace - gap, 0, 6) / 6
    unlike_human = 0.12 * np.abs(pace - human[:, 1, None]) + 0.04 * np.minimum(np.abs(at - human[:, 0, None]), 10)
    total: Array = cost + unlike_human
    return total
