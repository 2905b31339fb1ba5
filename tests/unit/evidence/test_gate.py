from dataclasses import replace

import pytest

from control_plane.evaluation.domain import (
    CaseStatus,
    PairedSuite,
    Verdict,
    decide_gate,
    parse_policy,
)
from tests.unit.evidence.worlds import beginning, policy, side, stop, suite

IMPROVES: dict[str, object] = {"suite": "field", "rule": "improves"}
NO_WORSE: dict[str, object] = {"suite": "field", "rule": "non_inferior", "margin": 0.03}
FASTER: dict[str, object] = {"suite": "field", "rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1}
HARD: dict[str, object] = {"suite": "field", "rule": "zero_tolerance", "scenarios": ["s0", "s1"]}
SMALL: dict[str, object] = {"suite": "field", "rule": "absolute_at_most", "metric": "incident", "bound": 0.1}
GOOD = suite([0] * 300, [1] * 40 + [0] * 260)
EQUAL = suite([0] * 300, [0] * 300)
WORSE = suite([1] * 40 + [0] * 260, [0] * 300)


def one(rule: dict[str, object], evidence: PairedSuite, **more: object) -> Verdict:
    decision = decide_gate(policy(rule, **more), [evidence])
    assert decision.because.startswith(decision.verdict)
    return decision.verdict


def broken(evidence: PairedSuite, *cases: int, status: CaseStatus = CaseStatus.FAILED) -> PairedSuite:
    results = list(evidence.candidate.results)
    for i in cases:
        results[i] = replace(results[i], status=status, metrics={})
    return replace(evidence, candidate=replace(evidence.candidate, results=tuple(results)))


def timed(candidate: float, champion: float) -> PairedSuite:
    times = [10 + i % 7 for i in range(60)]
    ours = side("candidate", [0] * 60, duration_s=[t * candidate for t in times])
    theirs = side("champion", [0] * 60, duration_s=[t * champion for t in times])
    return replace(suite([0] * 60, [0] * 60), candidate=ours, champion=theirs)


def test_improvement_is_shown_or_not() -> None:
    assert one(IMPROVES, GOOD) is Verdict.PASS
    assert one(IMPROVES, WORSE) is Verdict.FAIL
    decision = decide_gate(policy(IMPROVES), [EQUAL])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "no improvement shown" in decision.because


def test_non_inferiority_is_shown_or_not() -> None:
    assert one(NO_WORSE, EQUAL) is Verdict.PASS
    assert one(NO_WORSE, GOOD) is Verdict.PASS
    assert one(NO_WORSE, WORSE) is Verdict.FAIL
    assert one(NO_WORSE, suite([0] * 50, [0] * 50)) is Verdict.INCONCLUSIVE
    assert one(NO_WORSE, suite([0] * 300, [0] * 300, [f"c{i // 60}" for i in range(300)])) is Verdict.INCONCLUSIVE


def test_mission_time_has_a_bound() -> None:
    assert one(FASTER, timed(1.05, 1.0)) is Verdict.PASS
    assert one(FASTER, timed(1.2, 1.0)) is Verdict.FAIL
    assert one(FASTER, suite([1] * 60, [1] * 60)) is Verdict.INCONCLUSIVE


def test_mission_time_may_count_only_those_that_arrived() -> None:
    both = timed(1.0, 1.0)
    assert one({**FASTER, "among": "arrived"}, both) is Verdict.INCONCLUSIVE


def test_what_must_never_fail() -> None:
    assert one(HARD, EQUAL) is Verdict.PASS
    assert one(HARD, suite([0, 1] + [0] * 298, [0] * 300)) is Verdict.FAIL
    assert one(HARD, suite([0, 0, 1] + [0] * 297, [0] * 300)) is Verdict.PASS
    assert one(HARD, suite([0, 1] + [0] * 298, [0, 1] + [0] * 298)) is Verdict.PASS
    assert one({**HARD, "scenarios": ["s0", "gone"]}, EQUAL) is Verdict.INCONCLUSIVE
    assert one(HARD, broken(EQUAL, 1)) is Verdict.INCONCLUSIVE


def test_the_first_model_is_judged_by_itself() -> None:
    alone = suite([int(i % 30 == 29) for i in range(300)], None)
    assert one(NO_WORSE, alone) is Verdict.INCONCLUSIVE
    assert one(NO_WORSE, alone, first=[SMALL]) is Verdict.PASS
    assert one(NO_WORSE, alone, first=[{**SMALL, "bound": 0.01}]) is Verdict.FAIL
    assert one(NO_WORSE, alone, first=[{**SMALL, "bound": 0.035}]) is Verdict.INCONCLUSIVE
    assert one(NO_WORSE, EQUAL, first=[{**SMALL, "bound": -1}]) is Verdict.PASS


@pytest.mark.parametrize("rule", [IMPROVES, NO_WORSE, FASTER, HARD, SMALL])
def test_doubtful_data_never_pass(rule: dict[str, object]) -> None:
    assert GOOD.champion is not None
    doubtful = [
        beginning(GOOD, 0),
        suite([], []),
        broken(GOOD, 5, 6, 7, 8),
        broken(GOOD, 5, 6, 7, 8, status=CaseStatus.INVALID),
        replace(GOOD, champion=replace(GOOD.champion, simulator="sim@2")),
        replace(GOOD, champion=replace(GOOD.champion, suite_sha256="other")),
        replace(GOOD, candidate=replace(GOOD.candidate, results=GOOD.candidate.results[1:])),
        replace(GOOD, candidate=replace(GOOD.candidate, results=GOOD.candidate.results * 2)),
        replace(GOOD, scenarios=GOOD.scenarios[:-1]),
    ]
    for evidence in doubtful:
        assert one(rule, evidence) is Verdict.INCONCLUSIVE
    assert decide_gate(policy(rule), []).verdict is Verdict.INCONCLUSIVE


def test_a_candidate_that_breaks_the_simulation_is_the_worse_one() -> None:
    decision = decide_gate(policy(NO_WORSE), [broken(EQUAL, 9)])
    assert decision.parts[0].figures["broke"] == 1


def test_any_failed_part_fails_and_any_open_part_keeps_it_open() -> None:
    assert decide_gate(policy(NO_WORSE, IMPROVES), [EQUAL]).verdict is Verdict.INCONCLUSIVE
    assert decide_gate(policy(NO_WORSE, IMPROVES), [GOOD]).verdict is Verdict.PASS
    other = replace(WORSE, suite="nominal")
    decision = decide_gate(policy({**NO_WORSE, "suite": "nominal"}, IMPROVES), [GOOD, other])
    assert decision.verdict is Verdict.FAIL
    assert "nominal (non inferior)" in decision.because
    assert [part.verdict for part in decision.parts] == [Verdict.FAIL, Verdict.PASS]


def test_flips_are_shown_to_people() -> None:
    flips = decide_gate(policy(IMPROVES), [suite([1, 0, 0], [0, 1, 0])]).flips
    assert [(flip.scenario, flip.broke) for flip in flips] == [("s0", True), ("s1", False)]


def test_scenarios_of_a_cluster_speak_once() -> None:
    clusters = [f"c{i // 10}" for i in range(300)]
    lucky = suite([0] * 300, [1] * 40 + [0] * 260, clusters)
    assert one(IMPROVES, lucky) is Verdict.INCONCLUSIVE
    assert one(IMPROVES, suite([0] * 300, [1] * 120 + [0] * 180, clusters)) is Verdict.PASS


def test_simulating_stops_when_it_is_settled() -> None:
    rules = policy(IMPROVES)
    assert not stop(rules, beginning(GOOD, 0)).enough
    assert not stop(rules, beginning(GOOD, 3)).enough
    assert stop(rules, beginning(GOOD, 20)).enough
    assert stop(policy(NO_WORSE), beginning(WORSE, 20)).enough
    assert not stop(policy(NO_WORSE), beginning(EQUAL, 60)).enough
    assert stop(policy(NO_WORSE), beginning(EQUAL, 200)).enough
    assert not stop(policy({**NO_WORSE, "once": True}), beginning(EQUAL, 200)).enough
    assert stop(policy(NO_WORSE), EQUAL).enough
    assert stop(policy({**IMPROVES, "suite": "other"}), GOOD).enough


def test_stopped_early_is_judged_the_same_and_more_never_undoes_it() -> None:
    rules = policy(IMPROVES)
    assert decide_gate(rules, [beginning(GOOD, 20)]).verdict is Verdict.PASS
    late_harm = suite([0] * 40 + [1] * 100, [1] * 40 + [0] * 100)
    assert decide_gate(rules, [late_harm]).verdict is Verdict.PASS
    assert decide_gate(rules, [beginning(late_harm, 30)]).verdict is Verdict.PASS


def test_shards_that_come_back_out_of_order_wait_for_each_other() -> None:
    shuffled = replace(GOOD, candidate=replace(GOOD.candidate, results=GOOD.candidate.results[150:]))
    assert not stop(policy(IMPROVES), shuffled).enough
    tail_too = replace(
        beginning(GOOD, 20),
        candidate=replace(GOOD.candidate, results=GOOD.candidate.results[:20] + GOOD.candidate.results[200:]),
    )
    assert stop(policy(IMPROVES), tail_too).enough


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({}, "parts must be a list with at least one rule"),
        ({"parts": []}, "at least one rule"),
        ({"parts": [IMPROVES], "alhpa": 0.1}, "unknown keys alhpa"),
        ({"parts": [IMPROVES], "alpha": 0.9}, "alpha is 0.9"),
        ({"parts": [IMPROVES], "alpha": "high"}, "must be a number"),
        ({"parts": [IMPROVES], "alpha": True}, "must be a number"),
        ({"parts": [{**IMPROVES, "rule": "improve"}]}, "no rule is called 'improve'"),
        ({"parts": [{**IMPROVES, "margin": 1}]}, "unknown keys margin"),
        ({"parts": [{"suite": "field", "rule": "non_inferior"}]}, "margin must be a number"),
        ({"parts": [{**NO_WORSE, "margin": 0}]}, "between 0 and 1"),
        ({"parts": [{"rule": "improves"}]}, "suite must be a text"),
        ({"parts": ["improves"]}, "is not a mapping"),
        ({"parts": [{**FASTER, "bound": -1}]}, "must be positive"),
        ({"parts": [{**HARD, "scenarios": [1]}]}, "scenario ids"),
        ({"parts": [IMPROVES], "first": [IMPROVES]}, "only hold absolute_at_most"),
        ({"parts": [IMPROVES], "max_unusable": 0.5}, "max_unusable"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(gate: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_policy(gate)
