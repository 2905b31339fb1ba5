"""Simulation against the field, and what may be tested at all: pure functions with known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from control_plane.datasets.domain import why_leaks
from control_plane.evaluation.domain import (
    Assumptions,
    PartPlan,
    PlannedScenario,
    Ratio,
    Release,
    ScenarioState,
    Seen,
    SiteCounts,
    Trained,
    calibrate,
    coverage,
    differences,
    fingerprint,
    observed_ratio,
    overlaps,
    plan_gate,
    predicted_ratio,
    state_after,
    trust_of,
)
from flows.steps.split import split_groups
from tests.unit.evidence.worlds import paired, policy, side, suite

NO_WORSE: dict[str, object] = {"suite": "field", "rule": "non_inferior", "margin": 0.03}


def test_an_incident_is_a_test_once_it_happens_with_every_seed() -> None:
    assert state_after(3, 3) is ScenarioState.REPRODUCES
    assert state_after(3, 2) is ScenarioState.FLAKY
    assert state_after(3, 0) is ScenarioState.NOT_REPRODUCED
    assert state_after(3, 0, ScenarioState.ACCEPTED) is ScenarioState.ACCEPTED
    assert state_after(3, 3, ScenarioState.RETIRED) is ScenarioState.RETIRED
    assert state_after(3, 3, ScenarioState.FLAKY) is ScenarioState.REPRODUCES
    for seeds, failures in ((3, 4), (3, -1), (0, 0)):
        with pytest.raises(ValueError, match="impossible"):
            state_after(seeds, failures)


def test_nearly_the_same_parameters_have_one_fingerprint() -> None:
    base = {"width_m": 3.214, "movers": [{"x_m": 1.0, "kind": "person"}], "seed": 4, "range_noise_m": 0.1}
    near = {"width_m": 3.189, "movers": [{"x_m": 1.001, "kind": "person"}], "seed": 9, "range_noise_m": 0.9}
    assert fingerprint(base) == fingerprint(near) != ""
    assert fingerprint(base) != fingerprint({**base, "width_m": 3.3})
    assert fingerprint(base) != fingerprint({**base, "movers": []})
    assert fingerprint({}) == fingerprint({"seed": 3}) == ""


def test_what_was_trained_on_is_named() -> None:
    scenarios = [
        PlannedScenario("a", "e1"),
        PlannedScenario("b", "aisle-3"),
        PlannedScenario("c", "r" * 64),
        PlannedScenario("d", "x", fingerprint="f1"),
        PlannedScenario("e", "y", source="e1"),
        PlannedScenario("f"),
        PlannedScenario("g", "z", fingerprint="f2"),
    ]
    trained = [Trained("r" * 64, "e1", "aisle-3", "f1")]
    assert [found.scenario for found in overlaps("s", scenarios, trained)] == ["a", "b", "c", "d", "e"]
    assert overlaps("s", scenarios, [Trained("0" * 64, "", "")]) == ()


def test_an_incident_stands_on_one_side_of_the_split() -> None:
    events = [f"event-{number}" for number in range(200)]
    clips = events * 3  # several recordings of each incident
    sides = split_groups(clips, 0.3, "warehouse_amr")
    splits = {name: {e for e in clips if sides[e] == name} for name in ("train", "holdout")}
    assert splits["train"] & splits["holdout"] == set()
    assert len(splits["holdout"]) > 30
    assert why_leaks(splits) is None
    assert why_leaks({"train": {"event-1"}, "holdout": {"event-1"}}) is not None
    regression = [PlannedScenario(f"s{i}", event) for i, event in enumerate(sorted(splits["holdout"]))]
    assert overlaps("regression", regression, [Trained("", event, event) for event in splits["train"]]) == ()


def test_coverage_counts_suites_and_field_by_one_definition() -> None:
    domain = {"site": ["a", "b"], "floor": ["dry", "wet"]}
    scenarios = [Seen(frozenset({"site:a", "floor:dry"}), 1)] * 5
    events = [Seen(frozenset({"site:a", "floor:wet"}), 1)] * 2 + [Seen(frozenset({"site:b"}), 1)]
    found = coverage(domain, scenarios, events, [Seen(frozenset({"site:a"}), 12.5)])
    assert len(found.cells) == 8
    assert [cell.tags for cell in found.driven_not_simulated] == [("floor:wet",), ("site:a", "floor:wet"), ("site:b",)]
    assert next(cell for cell in found.cells if cell.tags == ("site:a",)).exposure == 12.5
    assert found.simulated_share == pytest.approx(1 / 4)
    assert coverage({}, scenarios, events, []).simulated_share is None


def test_the_predicted_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, truth, held = np.random.default_rng(41), 0.5, 0
    for _ in range(200):
        # 4 % common, 6 % fixed, 1 % broke: 5 % against 10 %
        candidate, champion = paired(rng, 800, 0.01, 0.06, 0.04)
        found = predicted_ratio([suite(candidate, champion)], "incident")
        assert found is not None
        held += found.low <= truth <= found.high
    assert held >= 0.92 * 200


def test_a_prediction_is_per_metre_and_of_the_suites_like_the_field() -> None:
    made = suite([1] * 5 + [0] * 95, [1] * 10 + [0] * 90)
    nominal = replace(suite([0] * 100, [1] * 50 + [0] * 50, name="nominal"), kind="nominal")
    plain = predicted_ratio([nominal, made], "incident")
    assert plain is not None
    assert plain.estimate == pytest.approx(0.5)
    far = side("candidate", [1] * 5 + [0] * 95, distance_m=[20.0] * 100)
    near = side("champion", [1] * 10 + [0] * 90, distance_m=[10.0] * 100)
    per_metre = predicted_ratio([replace(made, candidate=far, champion=near)], "incident")
    assert per_metre is not None
    assert per_metre.estimate == pytest.approx(0.25)
    none = predicted_ratio([suite([0] * 50, [1] * 5 + [0] * 45)], "incident")
    assert none is not None
    assert 0 < none.estimate < 0.2
    assert predicted_ratio([suite([1], None)], "incident") is None


def test_the_observed_ratio_compares_within_sites() -> None:
    # The candidate drives mostly at the bad site; pooled it would look twice as bad.
    sites = [SiteCounts(5, 10, 100, 100), SiteCounts(400, 100, 80, 10)]
    found = observed_ratio(sites)
    assert found is not None
    assert found.estimate == pytest.approx(0.5, abs=0.01)
    assert found.low < 0.5 < found.high
    assert observed_ratio([SiteCounts(1, 1, 0, 0)]) is None
    assert observed_ratio([]) is None


def release(predicted: float, observed: float | None, width: float = 1.3) -> Release:
    seen = None if observed is None else Ratio(observed / width, observed, observed * width)
    return Release("c", "b", "g", Ratio(predicted / width, predicted, predicted * width), seen)


def test_calibration_over_releases() -> None:
    good = calibrate([release(0.3, 0.33), release(0.6, 0.6), release(1.2, 1.0), release(0.5, None)])
    assert (good.releases, good.held, good.inside, good.rank_correlation) == (3, 3, 3, pytest.approx(1.0))
    assert trust_of(good).predictive is True
    bad = calibrate([release(0.3, 0.9), release(0.5, 1.5), release(0.9, 0.9)])
    assert (bad.held, bad.bias) == (1, pytest.approx(2 / 3 * math.log(3)))
    assert trust_of(bad).predictive is False
    assert "1 of 3" in trust_of(bad).because
    assert trust_of(calibrate([release(0.3, 0.9)])).predictive is None


def plan(rule: dict[str, object], size: int, each: int = 1, **assumed: float) -> PartPlan:
    scenarios = [PlannedScenario(f"s{i}", f"c{i // each}", ("wet",) if i < 9 else ()) for i in range(size)]
    return plan_gate(policy(rule), {"field": scenarios}, Assumptions(**assumed))[0]


def test_a_plan_counts_clusters_not_scenarios() -> None:
    assert plan(NO_WORSE, 400).enough
    grouped = plan(NO_WORSE, 400, 5)
    assert (grouped.planned, grouped.enough) == (80, False)
    assert grouped.needed == plan(NO_WORSE, 400).needed


def test_a_plan_for_every_kind_of_rule() -> None:
    better = plan({"suite": "field", "rule": "improves"}, 120)
    assert better.enough
    assert better.typical is not None
    assert better.needed is not None
    assert better.typical < better.needed < 120
    assert not plan({"suite": "field", "rule": "improves"}, 100, improvement=0.01).enough
    small = {"suite": "field", "rule": "absolute_at_most", "bound": 0.08}
    assert plan(small, 400).enough
    assert not plan(small, 400, failure_rate=0.1).enough
    late = {"suite": "field", "rule": "budget", "metric": "latency_ms", "at_most": 9, "quantile": 0.99}
    assert (plan(late, 100).enough, plan(late, 600).enough) == (False, True)
    assert plan({"suite": "field", "rule": "coverage_at_least", "floors": {"wet": 9}}, 20).enough
    assert "wet (9 of 10)" in plan({"suite": "field", "rule": "coverage_at_least", "floors": {"wet": 10}}, 20).because
    assert plan({"rule": "reviews_closed"}, 1).needed is None
    assert not plan({**NO_WORSE, "suite": "gone"}, 1).enough
    time: dict[str, object] = {"suite": "field", "rule": "mean_ratio_at_most", "metric": "t", "bound": 1.1}
    assert "nobody knows" in plan(time, 10).because


@pytest.mark.parametrize("wrong", [{"broke": 0.6, "fixed": 0.6}, {"power": 0.2}, {"improvement": -0.1}])
def test_impossible_assumptions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="assumed"):
        plan(NO_WORSE, 10, **wrong)


def test_differences_say_where() -> None:
    before = {"a": [1, {"b": 2}], "c": "x"}
    assert differences(before, {"a": [1, {"b": 2}], "c": "x"}) == []
    assert differences(before, {"a": [1, {"b": 3}], "c": "x"}) == ["a[1].b: was 2, is now 3"]
    assert differences(before, {"a": [1], "c": "y"})[1] == "c: was 'x', is now 'y'"
    assert len(differences(list(range(200)), list(range(1, 201)))) == 50
