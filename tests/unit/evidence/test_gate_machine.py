"""Whatever arrives at the gate, in whatever order and however often: it never passes what it has not seen, what it has
said stands, and there is an end.
"""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.evaluation.domain import (
    CaseResult,
    CaseStatus,
    GatePolicy,
    PairedSuite,
    Verdict,
    decide_gate,
    stopping,
)
from tests.unit.evidence.worlds import beginning, paired, paired_in_clusters, policy, suite

RULES = policy(
    {"suite": "nominal", "rule": "non_inferior", "margin": 0.1},
    {"suite": "nominal", "rule": "zero_tolerance", "scenarios": ["s0", "s1"]},
    {"suite": "field", "rule": "improves"},
)
SIZE = 90
SEEDS = st.integers(0, 2**32)
CHANCES = st.sampled_from(((0.01, 0.01), (0.0, 0.3), (0.3, 0.0), (0.1, 0.1), (0.02, 0.15)))


def made(seed: int, chances: tuple[float, float]) -> list[PairedSuite]:
    rng = np.random.default_rng(seed)
    nominal = suite(*paired(rng, SIZE, *chances), name="nominal")
    field = suite(*paired_in_clusters(rng, SIZE // 3, 3, *chances), name="field")
    return [nominal, field]


def prefix(suites: list[PairedSuite], seen: int) -> list[PairedSuite]:
    return [beginning(each, seen) for each in suites]


def verdict(rules: GatePolicy, suites: list[PairedSuite]) -> Verdict:
    return decide_gate(rules, suites).verdict


def shuffled(made: PairedSuite, rng: np.random.Generator) -> PairedSuite:
    """The same results, in the order in which shards happen to come back."""

    def mixed(results: tuple[CaseResult, ...]) -> tuple[CaseResult, ...]:
        return tuple(results[int(i)] for i in rng.permutation(len(results)))

    champion = made.champion and replace(made.champion, results=mixed(made.champion.results))
    return replace(made, candidate=replace(made.candidate, results=mixed(made.candidate.results)), champion=champion)


@settings(max_examples=40, deadline=None)
@given(SEEDS, CHANCES, st.integers(0, SIZE))
def test_the_order_of_arrival_changes_nothing(seed: int, chances: tuple[float, float], seen: int) -> None:
    rng, suites = np.random.default_rng(seed), prefix(made(seed, chances), seen)
    assert decide_gate(RULES, suites) == decide_gate(RULES, [shuffled(each, rng) for each in suites])


@settings(max_examples=40, deadline=None)
@given(SEEDS, CHANCES, st.lists(st.integers(0, SIZE), min_size=1, max_size=6))
def test_what_is_settled_stays_so_and_all_of_it_settles(
    seed: int, chances: tuple[float, float], looks: list[int]
) -> None:
    suites = made(seed, chances)
    whole = verdict(RULES, suites)
    for seen in sorted(looks):
        known = prefix(suites, seen)
        stops = stopping(RULES, known)
        if all(stop.enough for stop in stops):
            # Nothing that may still come changes what the gate lets through.
            assert (verdict(RULES, known) is Verdict.PASS) == (whole is Verdict.PASS)
        if verdict(RULES, known) is Verdict.PASS:
            assert whole is Verdict.PASS
        if any(stop.final for stop in stops):
            assert whole is Verdict.FAIL
    assert all(stop.enough for stop in stopping(RULES, suites))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(("candidate", "champion")), st.sampled_from(CaseStatus), st.integers(2, SIZE))
def test_simulations_that_failed_never_make_it_pass(seed: int, whose: str, status: CaseStatus, broken: int) -> None:
    """Too many that are not ok, on either side, are never a pass; nothing seen is never a pass."""
    suites = made(seed, (0.0, 0.3))
    nominal = suites[0]
    one = nominal.candidate if whose == "candidate" else nominal.champion
    assert one is not None
    results = tuple(replace(r, status=status) if i < broken else r for i, r in enumerate(one.results))
    hurt = replace(nominal, **{whose: replace(one, results=results)})  # type: ignore[arg-type] # one of two fields
    if status is not CaseStatus.OK:
        assert verdict(RULES, [hurt, suites[1]]) is not Verdict.PASS
    assert verdict(RULES, prefix(suites, 0)) is Verdict.INCONCLUSIVE
    assert verdict(RULES, []) is not Verdict.PASS


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=20))
def test_results_that_are_missing_never_help(seed: int, missing: set[int]) -> None:
    """The denominator is the plan's: leaving out results, the bad ones say, never turns a verdict into a pass."""
    suites = made(seed, (0.2, 0.05))
    before = verdict(RULES, suites)
    nominal = suites[0]
    kept = tuple(r for i, r in enumerate(nominal.candidate.results) if i not in missing)
    after = verdict(RULES, [replace(nominal, candidate=replace(nominal.candidate, results=kept)), suites[1]])
    assert before is Verdict.PASS or after is not Verdict.PASS
