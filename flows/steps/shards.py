"""Which ranges of a suite still have to be simulated."""

from collections.abc import Sequence


def shards_of(missing: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Cover the missing places with aligned ranges [start, stop) of `size`, so that a range's job key never varies."""
    starts = sorted({place // size * size for place in missing})
    return [(start, start + size) for start in starts]
