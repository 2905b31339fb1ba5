"""Results of two models put side by side, scenario by scenario, in the suite's own order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.evaluation.domain.values import CaseResult, CaseStatus, Flip, PairedSuite, PlannedScenario, Side
from control_plane.kit.betting import Blocks


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario with what each side made of it; the champion's is None where there is no champion."""

    planned: PlannedScenario
    candidate: CaseResult
    champion: CaseResult | None

    @property
    def usable(self) -> bool:
        return self.candidate.status is CaseStatus.OK and (
            self.champion is None or self.champion.status is CaseStatus.OK
        )

    @property
    def cluster(self) -> str:
        return self.planned.block


@dataclass(frozen=True, slots=True)
class Pair:
    """A 0/1 outcome per side, 1 is bad."""

    scenario: str
    cluster: str
    candidate: int
    champion: int

    @property
    def worse(self) -> int:
        return self.candidate - self.champion


def in_order(suite: PairedSuite) -> tuple[Case, ...]:
    """Give the unbroken beginning of the suite for which every side has a result.

    Only a prefix of an order fixed beforehand may be tested while it grows: what happens to be there could have been
    chosen by its outcome.
    """
    candidate = {r.scenario: r for r in suite.candidate.results}
    champion = {r.scenario: r for r in suite.champion.results} if suite.champion else None
    cases = []
    for planned in suite.scenarios:
        ours = candidate.get(planned.scenario)
        theirs = champion.get(planned.scenario) if champion is not None else None
        if ours is None or (champion is not None and theirs is None):
            break
        cases.append(Case(planned, ours, theirs))
    return tuple(cases)


def trouble(suite: PairedSuite, cases: Sequence[Case], max_unusable: float) -> str | None:
    """Say why these results cannot be believed, if they cannot."""
    sides = [suite.candidate] if suite.champion is None else [suite.candidate, suite.champion]
    problems = [_odd(suite, side) for side in sides] + [_mismatch(suite.candidate, side) for side in sides[1:]]
    for problem in problems:
        if problem:
            return problem
    if not cases:
        return "there are no results" if suite.scenarios else "the suite holds no scenario"
    unusable = sum(not case.usable for case in cases)
    if unusable > max_unusable * len(cases):
        return f"{unusable} of {len(cases)} scenarios failed to simulate or are invalid, at most {max_unusable:.0%} may"
    return None


def _mismatch(candidate: Side, champion: Side) -> str | None:
    if champion.simulator != candidate.simulator:
        return f"the candidate ran in {candidate.simulator}, the champion in {champion.simulator}"
    if champion.suite_sha256 != candidate.suite_sha256:
        return "candidate and champion ran over different versions of the suite"
    return None


def _odd(suite: PairedSuite, side: Side) -> str | None:
    names = [planned.scenario for planned in suite.scenarios]
    seen = [result.scenario for result in side.results]
    have = set(seen)
    if len(have) != len(seen):
        return "a scenario has two results for the same model"
    strangers = have - set(names)
    if strangers:
        return f"{len(strangers)} results belong to no scenario of the suite, for example {min(strangers)}"
    gaps = [name for name in names[: len(seen)] if name not in have]
    if gaps:
        return f"results are missing before others that are there: {len(gaps)} scenarios, for example {gaps[0]}"
    return None


def binary_pairs(cases: Sequence[Case], metric: str) -> tuple[Pair, ...]:
    """Pair up a 0/1 metric; a candidate that broke the simulation counts as bad, a champion that did is left out.

    Raises:
        ValueError: the metric is missing or not 0/1.
    """
    pairs = []
    for case in cases:
        if case.champion is None or case.champion.status is not CaseStatus.OK:
            continue
        ours = binary(case.candidate.metrics, metric) if case.candidate.status is CaseStatus.OK else 1
        pairs.append(Pair(case.planned.scenario, case.cluster, int(ours), int(binary(case.champion.metrics, metric))))
    return tuple(pairs)


def value(metrics: Mapping[str, float], metric: str) -> float:
    if metric not in metrics:
        raise ValueError(f"the results hold no metric called {metric}")
    return float(metrics[metric])


def binary(metrics: Mapping[str, float], metric: str) -> float:
    number = value(metrics, metric)
    if number not in {0.0, 1.0}:
        raise ValueError(f"the metric {metric} is {number:g}, it must be 0 or 1 for this rule")
    return number


def spoken(suite: PairedSuite, seen: int) -> tuple[str, ...]:
    """Give the clusters of which everything is in, in the order in which they became complete.

    Scenarios that share a cluster are not independent news. A cluster speaks once all its scenarios are in.
    """
    last = {planned.block: position for position, planned in enumerate(suite.scenarios)}
    return tuple(name for position, name in sorted((place, name) for name, place in last.items()) if position < seen)


def blocks_of(suite: PairedSuite, seen: int, rows: Sequence[tuple[str, float]]) -> Blocks:
    """Add values up by cluster, over clusters that have spoken; `rows` are (cluster, value)."""
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for cluster, amount in rows:
        sums[cluster] = sums.get(cluster, 0.0) + amount
        sizes[cluster] = sizes.get(cluster, 0) + 1
    ready = [name for name in spoken(suite, seen) if name in sums]
    planned = Counter(scenario.block for scenario in suite.scenarios)
    return Blocks(
        tuple(sums[name] for name in ready),
        tuple(float(sizes[name]) for name in ready),
        float(max(planned.values(), default=1)),
    )


def signs_of(blocks: Blocks) -> tuple[int, ...]:
    """Reduce each cluster to its sign (+1: the candidate is worse)."""
    return tuple((total > 0) - (total < 0) for total in blocks.sums)


def flips(suite: PairedSuite, pairs: Sequence[Pair]) -> tuple[Flip, ...]:
    return tuple(Flip(suite.suite, p.scenario, p.cluster, p.worse > 0) for p in pairs if p.worse)
