"""Owns random numbers that depend on the scenario and the step alone, never on the batch, the shard or the threads."""

import hashlib

import numpy as np

from flows.workloads.kit.types import Array, Rng

BLOCK_STEPS = 32


def stream(*parts: int | str) -> Rng:
    """Give the generator named by `parts`; equal names give equal numbers, other names independent ones."""
    name = "\x1f".join(str(part) for part in parts).encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(key=key))


def seed_of(*parts: int | str) -> int:
    """Give a 31-bit seed named by `parts`."""
    return int(stream(*parts).integers(0, 2**31 - 1))


class SlotNoise:
    """Normal and uniform numbers for many slots, each slot playing the stream of its own scenario.

    Numbers are drawn a block of steps at a time: one generator per block, keyed by (seed, block), which is what makes
    them counter-based and still cheap.
    """

    def __init__(self, slots: int, width: int) -> None:
        self._normal = np.zeros((slots, BLOCK_STEPS, width), np.float32)
        self._uniform = np.zeros((slots, BLOCK_STEPS, width), np.float32)
        self._seed = np.zeros(slots, np.int64)

    def load(self, slot: int, seed: int) -> None:
        self._seed[slot] = seed

    def take(self, steps: Array, active: Array) -> tuple[Array, Array]:
        """Give this step's normal and uniform numbers, a row per slot; rows of inactive slots mean nothing."""
        for slot in np.flatnonzero(active & (steps % BLOCK_STEPS == 0)):
            self._fill(int(slot), int(steps[slot]) // BLOCK_STEPS)
        rows, at = np.arange(len(steps)), steps % BLOCK_STEPS
        return self._normal[rows, at], self._uniform[rows, at]

    def _fill(self, slot: int, block: int) -> None:
        philox = np.random.Philox(key=int(self._seed[slot]), counter=[0, 0, 0, block])
        generator = np.random.Generator(philox)
        generator.standard_normal(dtype=np.float32, out=self._normal[slot])
        generator.random(dtype=np.float32, out=self._uniform[slot])
