"""Every part of the gate: what decides it, when, and that it never decides on nothing."""

from dataclasses import replace

import pytest

from agents.protocol.v1.statement import Result
from control_plane.evaluation.domain import (
    CaseStatus,
    Context,
    HoldoutUse,
    Overlap,
    PairedSuite,
    PartVerdict,
    PlannedScenario,
    Trust,
    Verdict,
    decide_gate,
    parse_policy,
    questions,
    result_of,
    stopping,
)
from tests.unit.evidence.test_gate import EQUAL, GOOD, IMPROVES, NO_WORSE, WORSE
from tests.unit.evidence.worlds import beginning, policy, side, stop, suite

HARD: dict[str, object] = {"suite": "field", "rule": "zero_tolerance"}
COVER: dict[str, object] = {"suite": "field", "rule": "coverage_at_least", "floors": {"floor:wet+site:cold": 20}}
LATENCY: dict[str, object] = {
    "suite": "field",
    "rule": "budget",
    "metric": "latency_ms",
    "at_most": 20,
    "quantile": 0.99,
    "device_class": "orin",
}
ENERGY: dict[str, object] = {
    "suite": "field",
    "rule": "budget",
    "metric": "energy_j",
    "at_most": 5,
    "per": "distance_m",
}
REVIEWS: dict[str, object] = {"rule": "reviews_closed"}
FASTER: dict[str, object] = {"suite": "field", "rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1}
INCONCLUSIVE = Verdict.INCONCLUSIVE


def tagged(evidence: PairedSuite, wet: int) -> PairedSuite:
    """Give the first `wet` scenarios the tags of a wet cold store."""
    scenarios = tuple(
        replace(planned, tags=("floor:wet", "site:cold") if i < wet else ("floor:dry", "site:cold"))
        for i, planned in enumerate(evidence.scenarios)
    )
    return replace(evidence, scenarios=scenarios)


def seeds(candidate: list[int], champion: list[int], each: int) -> PairedSuite:
    """Situations that are driven with `each` seeds."""
    made = suite(candidate, champion)
    scenarios = tuple(replace(p, repeats=f"situation-{i // each}") for i, p in enumerate(made.scenarios))
    return replace(made, scenarios=scenarios)


def measured(size: int = 400, **metrics: list[float]) -> PairedSuite:
    made = suite([0] * size, [0] * size)
    return replace(made, candidate=side("candidate", [0] * size, **metrics))


def verdict(rule: dict[str, object], evidence: PairedSuite, context: Context = Context()) -> Verdict:  # noqa: B008 - frozen
    return decide_gate(policy(rule), [evidence], context).verdict


def test_a_situation_fails_when_it_fails_with_every_seed() -> None:
    assert verdict(HARD, seeds([0] * 6, [0] * 6, 3)) is Verdict.PASS
    assert verdict(HARD, seeds([1, 1, 1, 0, 0, 0], [0] * 6, 3)) is Verdict.FAIL
    assert verdict(HARD, seeds([1, 1, 0, 0, 0, 0], [0] * 6, 3)) is INCONCLUSIVE
    assert verdict(HARD, seeds([1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], 3)) is Verdict.PASS
    assert verdict(HARD, beginning(seeds([1, 1, 1, 0, 0, 0], [0] * 6, 3), 2)) is INCONCLUSIVE
    one = {**HARD, "scenarios": ["situation-1"]}
    assert verdict(one, seeds([1, 1, 1, 0, 0, 0], [0] * 6, 3)) is Verdict.PASS
    assert verdict({**HARD, "scenarios": ["situation-9"]}, seeds([0] * 6, [0] * 6, 3)) is INCONCLUSIVE


def test_coverage_counts_the_plan_and_what_has_results() -> None:
    assert verdict(COVER, tagged(EQUAL, 20)) is Verdict.PASS
    planned_too_few = decide_gate(policy(COVER), [tagged(EQUAL, 19)])
    assert (planned_too_few.verdict, "the suite itself" in planned_too_few.because) == (INCONCLUSIVE, True)
    assert verdict(COVER, beginning(tagged(EQUAL, 20), 19)) is INCONCLUSIVE
    assert verdict(COVER, beginning(tagged(EQUAL, 20), 20)) is Verdict.PASS
    lost = tagged(EQUAL, 20)
    results = (replace(lost.candidate.results[0], status=CaseStatus.INVALID), *lost.candidate.results[1:])
    assert verdict(COVER, replace(lost, candidate=replace(lost.candidate, results=results))) is INCONCLUSIVE


def test_coverage_keeps_a_suite_going_until_it_is_met_and_no_longer() -> None:
    rules = policy(NO_WORSE, COVER)
    late = replace(EQUAL, scenarios=tuple(reversed(tagged(EQUAL, 20).scenarios)))
    late = replace(late, scenarios=tuple(replace(p, scenario=f"s{i}") for i, p in enumerate(late.scenarios)))
    assert not stop(rules, beginning(late, 250)).enough
    assert stop(rules, beginning(tagged(EQUAL, 20), 250)).enough
    assert stop(rules, beginning(tagged(EQUAL, 19), 250)).enough  # no waiting for what the plan does not hold


def test_latency_has_a_budget_for_each_class() -> None:
    assert verdict(LATENCY, measured(latency_ms=[12.0] * 400)) is Verdict.PASS
    assert verdict(LATENCY, measured(latency_ms=[12.0] * 380 + [30.0] * 20)) is Verdict.FAIL
    assert verdict(LATENCY, measured(60, latency_ms=[12.0] * 60)) is INCONCLUSIVE
    assert verdict(LATENCY, EQUAL) is INCONCLUSIVE
    other = decide_gate(policy(LATENCY, IMPROVES), [GOOD], Context(device_classes=("xavier",)))
    assert [part.rule for part in other.parts] == ["improves"]
    assert verdict(LATENCY, EQUAL, Context(device_classes=("orin",))) is INCONCLUSIVE


def test_energy_has_a_budget_per_distance() -> None:
    walked = [10.0 + i % 3 for i in range(100)]
    for per_metre, said in ((4.0, Verdict.PASS), (6.0, Verdict.FAIL)):
        spent = [per_metre * metres + i % 5 for i, metres in enumerate(walked)]
        assert verdict(ENERGY, measured(100, energy_j=spent, distance_m=walked)) is said
    assert verdict(ENERGY, measured(100, energy_j=[1.0] * 100)) is INCONCLUSIVE
    assert verdict(ENERGY, beginning(measured(100, energy_j=walked, distance_m=walked), 50)) is INCONCLUSIVE


def test_mission_time_with_limits_is_settled_early_and_without_limits_at_the_end() -> None:
    times = [15.0 + i % 7 for i in range(400)]
    made = suite([0] * 400, [0] * 400)

    def world(factor: float) -> PairedSuite:
        ours = side("candidate", [0] * 400, duration_s=[t * factor for t in times])
        return replace(made, candidate=ours, champion=side("champion", [0] * 400, duration_s=times))

    limited = {**FASTER, "limits": [0, 40]}
    assert verdict(limited, beginning(world(1.0), 200)) is Verdict.PASS
    assert verdict(limited, beginning(world(1.3), 200)) is Verdict.FAIL
    assert verdict(FASTER, beginning(world(1.0), 200)) is INCONCLUSIVE
    assert verdict(FASTER, world(1.0)) is Verdict.PASS
    impossible = decide_gate(policy({**FASTER, "limits": [0, 18]}), [world(1.0)])
    assert (impossible.verdict, "lies between 0 and 18" in impossible.because) == (INCONCLUSIVE, True)


def test_questions_to_people_are_few_and_the_same_every_time() -> None:
    clusters = [f"c{i // 4}" for i in range(40)]
    made = suite([1] * 40, [0] * 40, clusters)
    asked = questions(decide_gate(policy(IMPROVES, grave=["incident"]), [made]).flips)
    assert [q.subject for q in asked] == [f"broke/field/c{i}" for i in range(5)] + ["broke/others"]
    assert {q.needed for q in asked} == {2}
    assert sum(len(q.flips) for q in asked) == 40
    mended = questions(decide_gate(policy(IMPROVES, grave=["incident"]), [suite([0], [1])]).flips)
    assert [(q.subject, q.needed) for q in mended] == [("mended/field/scenario:s0", 1)]


def test_flips_wait_for_people_and_a_no_is_final() -> None:
    made = suite([1, 0, 0], [0, 1, 0])
    subjects = [q.subject for q in questions(decide_gate(policy(IMPROVES), [made]).flips)]
    answers = dict.fromkeys(subjects, "approved")
    assert verdict(REVIEWS, made) is INCONCLUSIVE
    assert verdict(REVIEWS, made, Context(reviews=answers)) is Verdict.PASS
    assert verdict(REVIEWS, made, Context(reviews=answers | {subjects[0]: "open"})) is INCONCLUSIVE
    assert verdict(REVIEWS, made, Context(reviews=answers | {subjects[0]: "rejected"})) is Verdict.FAIL
    assert verdict(REVIEWS, EQUAL) is Verdict.PASS


def test_what_was_trained_on_is_no_test() -> None:
    rule: dict[str, object] = {"rule": "no_overlap"}
    assert verdict(rule, EQUAL) is INCONCLUSIVE
    assert verdict(rule, EQUAL, Context(overlaps=())) is Verdict.PASS
    decision = decide_gate(policy(rule), [EQUAL], Context(overlaps=(Overlap("field", "s7", "event e1"),)))
    assert decision.verdict is Verdict.FAIL
    assert "field/s7 (event e1)" in decision.because


def test_a_simulator_that_was_wrong_before_is_said_and_may_be_a_part() -> None:
    rule: dict[str, object] = {"rule": "predictive"}
    wrong = Context(trust=Trust(predictive=False, because="2 of 5 predictions held"))
    assert verdict(rule, EQUAL) is INCONCLUSIVE
    assert verdict(rule, EQUAL, wrong) is Verdict.FAIL
    assert verdict(rule, EQUAL, Context(trust=Trust(predictive=True, because=""))) is Verdict.PASS
    said = decide_gate(policy(NO_WORSE), [EQUAL], wrong)
    assert (said.verdict, "2 of 5 predictions held" in said.because) == (Verdict.PASS, True)


def test_a_hidden_suite_answers_once_and_only_so_often() -> None:
    spent = Context(holdout={"field": HoldoutUse(3, 3, spent=True)})
    decision = decide_gate(policy(NO_WORSE), [EQUAL], spent)
    assert (decision.verdict, "looked at 3 times" in decision.because) == (INCONCLUSIVE, True)
    first = PartVerdict("field", "non_inferior", Verdict.FAIL, "as told before", {}, "incident")
    told = Context(holdout={"field": HoldoutUse(3, 3, spent=True, answers=(first,))})
    assert decide_gate(policy(NO_WORSE), [EQUAL], told).parts == (first,)


def test_incidents_that_do_not_happen_again_count_for_nothing() -> None:
    clusters = [f"e{i}" for i in range(300)]
    made = suite([1] * 40 + [0] * 260, [0] * 300, clusters)
    assert verdict(NO_WORSE, made) is Verdict.FAIL
    left_out = Context(left_out={"field": tuple(f"e{i}" for i in range(40))})
    decision = decide_gate(policy(NO_WORSE), [made], left_out)
    assert decision.verdict is Verdict.PASS
    assert decision.parts[0].figures["incidents_left_out"] == 40
    assert decision.parts[0].figures["planned"] == 260
    assert stop(policy(NO_WORSE), beginning(made, 280), left_out).enough


def test_non_inferiority_states_its_power() -> None:
    figures = decide_gate(policy(NO_WORSE), [beginning(EQUAL, 100)]).parts[0].figures
    assert (figures["planned"], figures["pairs"], figures["margin"]) == (300, 100, 0.03)
    assert 0.7 < float(figures["power"] or 0) < 0.8
    assert 0.03 < float(figures["margin_detectable"] or 0) < 0.035
    assert 300 < float(figures["pairs_needed"] or 0) < 350


def test_only_improves_is_a_claim() -> None:
    guards = ("non_inferior", "coverage_at_least", "budget", "reviews_closed", "no_overlap", "predictive")
    for rule in guards:
        parts = [{"rule": rule, "verdict": "inconclusive"}, {"rule": "improves", "verdict": "pass"}]
        assert result_of(INCONCLUSIVE, parts) is None
        assert result_of(Verdict.FAIL, [{"rule": rule, "verdict": "fail"}]) is Result.FAILED


def test_a_failed_guard_ends_it_and_a_failed_claim_lets_guards_go_on() -> None:
    failed = stop(policy(NO_WORSE, IMPROVES), beginning(WORSE, 20))
    assert (failed.enough, failed.final) == (True, True)
    claim = stop(policy(IMPROVES), beginning(WORSE, 20))
    assert (claim.enough, claim.final) == (True, False)
    elsewhere = replace(EQUAL, suite="nominal")
    rules = policy(IMPROVES, {**IMPROVES, "suite": "nominal"})
    stops = stopping(rules, [beginning(WORSE, 20), beginning(elsewhere, 0)])
    assert [s.enough for s in stops] == [True, True]  # no other claim matters any more
    guarded = policy(IMPROVES, {**NO_WORSE, "suite": "nominal"})
    assert [s.enough for s in stopping(guarded, [beginning(WORSE, 20), beginning(elsewhere, 20)])] == [True, False]
    both = policy(IMPROVES, FASTER)
    assert not stop(both, beginning(WORSE, 60)).enough


def test_a_decision_is_kept_whatever_comes_after() -> None:
    safe_then_bad = suite([0] * 250 + [1] * 50, [0] * 300)
    assert stop(policy(NO_WORSE), beginning(safe_then_bad, 250)).enough
    assert verdict(NO_WORSE, beginning(safe_then_bad, 250)) is Verdict.PASS
    assert verdict(NO_WORSE, safe_then_bad) is Verdict.PASS
    bad_then_safe = suite([1] * 20 + [0] * 280, [0] * 20 + [1] * 280)
    assert verdict(NO_WORSE, bad_then_safe) is Verdict.FAIL


@pytest.mark.parametrize("broke", range(6))
def test_a_few_new_failures_in_400_pass_a_margin_of_three_points(broke: int) -> None:
    candidate = [0] * 400
    for i in range(broke):
        candidate[37 + 71 * i] = 1
    assert verdict(NO_WORSE, suite(candidate, [0] * 400)) is Verdict.PASS


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "safety_score"}, "never on a composite"),
        ({"metric": "drive", "composites": ["drive"]}, "never on a composite"),
        ({"parts": [{**NO_WORSE, "metric": "Composite"}]}, "never on a composite"),
        ({"parts": [{**COVER, "floors": {}}]}, "at least one tag"),
        ({"parts": [{**COVER, "floors": {"a": 0}}]}, "whole number from 1"),
        ({"parts": [{**LATENCY, "per": "distance_m"}]}, "either quantile"),
        ({"parts": [{**LATENCY, "quantile": 1}]}, "between 0 and 1"),
        ({"parts": [{**REVIEWS, "suite": "field"}]}, "unknown keys suite"),
        ({"parts": [{**FASTER, "limits": [3]}]}, "two numbers"),
        ({"parts": [{**FASTER, "limits": [3, 1]}]}, "the smaller"),
        ({"parts": [{**FASTER, "limits": [10, 11]}]}, "tell apart"),
        ({"parts": [{**NO_WORSE, "once": "yes"}]}, "true or false"),
        ({"domain": ["site"]}, "must be a mapping"),
        ({"domain": {"site": [1]}}, "list of names"),
        ({"first": [NO_WORSE]}, "need no champion"),
        ({"holdout_budget": -1}, "whole number"),
    ],
)
def test_a_policy_that_hides_or_confuses_is_refused(gate: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_policy({"parts": [IMPROVES]} | gate)


def test_a_scenario_alone_is_its_own_block() -> None:
    assert (PlannedScenario("s1").block, PlannedScenario("s1", "c").block) == ("scenario:s1", "c")
    assert (PlannedScenario("s1").situation, PlannedScenario("s1", repeats="r").situation) == ("s1", "r")
