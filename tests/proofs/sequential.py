"""How many simulations the sequential gate uses of those that the fixed-size gate would, at the same error rates.

The candidates are those measured on the reference workload against its second version: incidents per scenario on the
nominal, regression and field suite. Outcomes are drawn with these rates, seed by seed; what differs beyond the rates
differs in half a point of scenarios in either direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from control_plane.evaluation.domain import PairedSuite, Verdict, decide_gate, stopping
from tests.unit.evidence.worlds import beginning, policy, side, suite

Rates = tuple[float, float, float]
SIZES = {"nominal": 400, "regression": 120, "field": 300}
CLUSTERS = {"nominal": 1, "regression": 3, "field": 1}
WAVE = 30
CHANCE = 0.005
RULES = policy(
    {"suite": "nominal", "rule": "non_inferior", "margin": 0.03},
    {"suite": "nominal", "rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1, "limits": [0, 40]},
    {"suite": "regression", "rule": "improves"},
    {"suite": "field", "rule": "improves"},
)


@dataclass(frozen=True)
class Candidate:
    """Incident rates by suite, its champion's, and how long it takes against the champion."""

    name: str
    rates: Rates
    champion: Rates
    pace: float = 1.0


V1, V2 = (0.005, 0.914, 0.174), (0.005, 0.381, 0.056)
CANDIDATES = (
    Candidate("v2 against v1", V2, V1),
    Candidate("v1 against v2", V1, V2),
    Candidate("shuffled clip labels", (0.048, 0.933, 0.205), V2),
    Candidate("turn sign flipped in clips", (0.028, 0.514, 0.101), V2),
    Candidate("clips only", (0.007, 0.467, 0.086), V2),
    Candidate("weight noise 3 %", (0.100, 0.448, 0.163), V2),
    Candidate("weight noise 10 %", (0.230, 0.600, 0.316), V2),
    Candidate("driven again only dry, only people", (0.003, 0.610, 0.128), V2),
    Candidate("one-sided, not mirrored", (0.003, 0.590, 0.107), V2),
    Candidate("labels 0.2 m/s faster", (0.058, 0.629, 0.168), V2, 0.82),
)


def drawn(rng: Generator, name: str, ours: float, theirs: float, pace: float) -> PairedSuite:
    """Draw one suite; scenarios of a cluster share their outcome."""
    size, each = SIZES[name], CLUSTERS[name]
    draw = np.repeat(rng.random(size // each), each)
    both = min(ours, theirs)
    broke, fixed = max(ours - theirs, 0.0) + CHANCE, max(theirs - ours, 0.0) + CHANCE
    new, mended = draw < broke, (draw >= broke) & (draw < broke + fixed)
    common = (draw >= broke + fixed) & (draw < broke + fixed + both)
    times = rng.uniform(12, 24, size)
    clusters = [f"{name}-{i // each}" for i in range(size)]
    made = suite((new | common).astype(int).tolist(), (mended | common).astype(int).tolist(), clusters, name)
    later = np.clip(times * pace + rng.normal(0, 1, size), 0, 40)
    return replace(
        made,
        candidate=side("candidate", (new | common).astype(int).tolist(), clusters, duration_s=later.tolist()),
        champion=side("champion", (mended | common).astype(int).tolist(), clusters, duration_s=times.tolist()),
    )


def used(suites: Sequence[PairedSuite]) -> tuple[int, Verdict]:
    """Simulate wave by wave as the flow does: suite after suite, until each is settled or the gate has failed."""
    count = 0
    kept: list[PairedSuite] = []
    for made in suites:
        seen, said = 0, stopping(RULES, [*kept, beginning(made, 0)])[-1]
        while not said.enough and seen < len(made.scenarios):
            seen = min(seen + WAVE, len(made.scenarios))
            said = stopping(RULES, [*kept, beginning(made, seen)])[-1]
        count += seen
        kept.append(beginning(made, seen))
        if said.final:
            break
    return count, decide_gate(RULES, kept).verdict


def measure(runs: int) -> Mapping[str, tuple[float, float, float]]:
    """Give by candidate: the share of simulations used, how often it passes sequentially, and with the whole suites."""
    rng = np.random.default_rng(91)
    found = {}
    for candidate in CANDIDATES:
        shares, passed, whole = [], 0, 0
        for _ in range(runs):
            suites = [
                drawn(rng, name, ours, theirs, candidate.pace)
                for name, ours, theirs in zip(SIZES, candidate.rates, candidate.champion, strict=True)
            ]
            count, verdict = used(suites)
            shares.append(count / sum(SIZES.values()))
            passed += verdict is Verdict.PASS
            whole += decide_gate(RULES, suites).verdict is Verdict.PASS
        found[candidate.name] = (float(np.mean(shares)), passed / runs, whole / runs)
    return found
