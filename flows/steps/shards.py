"""Which ranges of a suite still have to be simulated."""

from collections.abc import Iterable, Iterator, Sequence

LONGEST_SHARD = 8  # times the workload's shard_scenarios
WAVE_PART = 4  # a wave adds at most a quarter to what is known


def shards_of(missing: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Cover the missing places with aligned ranges [start, stop) of `size`, so that a range's job key never varies."""
    starts = sorted({place // size * size for place in missing})
    return [(start, start + size) for start in starts]


def waves_of(missing: Sequence[int], size: int, jobs: int) -> Iterator[list[tuple[int, int]]]:
    """Cut what is missing into waves of at most `jobs` shards for each side, so that every slot has something to do.

    The first are small and none adds more than a quarter to the evidence, so that little is simulated beyond the
    answer; in a long suite later jobs are long enough that starting their processes costs little. Where a shard begins
    depends on nothing that is missing, so that its job's key never varies.
    """
    begin = 0
    while missing and begin <= max(missing):
        each = size * min(LONGEST_SHARD, max(1, begin // (WAVE_PART * size * jobs)))
        shards = [(start, start + each) for start in range(begin, begin + each * jobs, each)]
        wave = [(start, stop) for start, stop in shards if any(start <= place < stop for place in missing)]
        if wave:
            yield wave
        begin += each * jobs


def side_by_side(
    waves: Iterable[list[tuple[int, int]]], missing: Sequence[Sequence[int]]
) -> Iterator[list[tuple[int, int]]]:
    """Join waves while a side has all of them already, so that its slots work for the other side.

    `missing`: what each side lacks. Shards stay as they are, so their jobs' keys do.
    """
    wave = list[tuple[int, int]]()
    joined = 0
    for shards in waves:
        wave += shards
        joined += 1
        lacking = sum(any(start <= place < stop for start, stop in wave for place in places) for places in missing)
        if joined * max(lacking, 1) >= len(missing):
            yield wave
            wave, joined = [], 0
    if wave:
        yield wave
