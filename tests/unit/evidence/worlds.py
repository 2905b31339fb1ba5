"""Made-up worlds with known truths, from fixed seeds; the unit tests use few, tests/proofs/errors.py many."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from control_plane.evaluation.domain import (
    CaseResult,
    CaseStatus,
    Context,
    GatePolicy,
    PairedSuite,
    PlannedScenario,
    Side,
    Stop,
    parse_policy,
    stopping,
)
from control_plane.kit.statistics import unit_moments
from control_plane.rollout.domain import ArmSpread, Increment, Plan, Stratum, weigh


def policy(*parts: dict[str, object], **more: object) -> GatePolicy:
    return parse_policy({"alpha": 0.05, "metric": "incident", "parts": list(parts), **more})


def side(name: str, bad: Sequence[int], clusters: Sequence[str] = (), **metrics: Sequence[float]) -> Side:
    results = tuple(
        CaseResult(
            f"s{i}",
            clusters[i] if clusters else "",
            CaseStatus.OK,
            {"incident": float(value), **{key: float(values[i]) for key, values in metrics.items()}},
        )
        for i, value in enumerate(bad)
    )
    return Side(name, "sim@1", "suite-digest", results)


def suite(
    candidate: Sequence[int], champion: Sequence[int] | None, clusters: Sequence[str] = (), name: str = "field"
) -> PairedSuite:
    planned = tuple(PlannedScenario(f"s{i}", clusters[i] if clusters else "") for i in range(len(candidate)))
    theirs = None if champion is None else side("champion", champion, clusters)
    return PairedSuite(name, name, planned, side("candidate", candidate, clusters), theirs)


def stop(rules: GatePolicy, evidence: PairedSuite, context: Context | None = None) -> Stop:
    return stopping(rules, [evidence], context or Context())[0]


def beginning(made: PairedSuite, seen: int) -> PairedSuite:
    """Give what is known after the first `seen` scenarios."""
    champion = made.champion and replace(made.champion, results=made.champion.results[:seen])
    return replace(made, candidate=replace(made.candidate, results=made.candidate.results[:seen]), champion=champion)


def paired(rng: Generator, size: int, broke: float, fixed: float, both: float = 0.02) -> tuple[list[int], list[int]]:
    """Draw 0/1 outcomes (candidate, champion) with these chances of a new, a mended and a common failure."""
    draw = rng.random(size)
    candidate = (draw < broke) | (draw >= 1 - both)
    champion = ((draw >= broke) & (draw < broke + fixed)) | (draw >= 1 - both)
    return candidate.astype(int).tolist(), champion.astype(int).tolist()


def paired_in_clusters(
    rng: Generator, clusters: int, each: int, broke: float, fixed: float
) -> tuple[list[int], list[int], list[str]]:
    """Every cluster is one draw, repeated with a little noise: the worst case of dependence."""
    candidate, champion = paired(rng, clusters, broke, fixed)
    noise = rng.random((2, clusters * each)) < 0.02
    one = np.repeat(candidate, each) ^ noise[0]
    two = np.repeat(champion, each) ^ noise[1]
    return one.astype(int).tolist(), two.astype(int).tolist(), [f"c{i // each}" for i in range(clusters * each)]


@dataclass(frozen=True)
class Arm:
    """One stratum's canary and control devices; `rate` is events per unit of exposure."""

    stratum: Stratum
    canaries: int
    controls: int
    rate: float


@dataclass(frozen=True)
class Field:
    arms: tuple[Arm, ...]
    buckets: int
    exposure: float  # per device and bucket
    frailty: float = 0.0

    def run(self, rng: Generator, ratio: float) -> tuple[tuple[Increment, ...], list[tuple[ArmSpread, ...]]]:
        """Give all increments, and after every bucket what is known of the devices so far."""
        increments: list[Increment] = []
        spreads: list[list[ArmSpread]] = [[] for _ in range(self.buckets)]
        for arm in self.arms:
            counts = self._counts(rng, arm, ratio)
            sums = np.cumsum(counts, axis=0)
            for bucket in range(self.buckets):
                n, row, total = arm.canaries, counts[bucket], sums[bucket]
                exposed = (n * self.exposure, arm.controls * self.exposure)
                increments.append(Increment(bucket, arm.stratum, *exposed, int(row[:n].sum()), int(row[n:].sum())))
                amounts = np.full(total.size, self.exposure * (bucket + 1))
                moments = (unit_moments(total[:n], amounts[:n]), unit_moments(total[n:], amounts[n:]))
                spreads[bucket].append(ArmSpread(arm.stratum, *moments))
        return tuple(increments), [tuple(row) for row in spreads]

    def _counts(self, rng: Generator, arm: Arm, ratio: float) -> np.ndarray:
        devices = arm.canaries + arm.controls
        factor = rng.gamma(1 / self.frailty, self.frailty, devices) if self.frailty else np.ones(devices)
        mean = arm.rate * self.exposure * factor
        mean[: arm.canaries] *= ratio
        return rng.poisson(mean, (self.buckets, devices))


def halted(plan: Plan, world: Field, rng: Generator, ratio: float, *, look_every: int = 0) -> bool:
    """Say whether canary is ever halted; with `look_every` the devices' spread is used at every such look."""
    increments, spreads = world.run(rng, ratio)
    if not look_every:
        return weigh(plan, increments).harm.crossed
    looks = range(look_every - 1, world.buckets, look_every)
    return any(
        weigh(plan, [step for step in increments if step.bucket <= look], spreads[look]).harm.crossed for look in looks
    )


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
