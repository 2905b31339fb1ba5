import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from control_plane.kit import statistics as s
from control_plane.kit.statistics import TwoArmStep

HARM = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
SIGNS = st.lists(st.sampled_from((-1, 0, 1)), max_size=60)
STEPS = st.lists(
    st.builds(TwoArmStep, st.floats(0.1, 100), st.floats(0.1, 100), st.integers(0, 5), st.integers(0, 20)), max_size=15
)


@given(SIGNS)
def test_the_sign_mixture_is_the_integral_it_claims_to_be(signs: list[int]) -> None:
    path = s.sign_path(signs, 0.05)
    plus, minus = signs.count(1), signs.count(-1)
    wanted, _ = integrate.quad(lambda t: 2 * t**plus * (1 - t) ** minus * 2.0 ** (plus + minus), 0.5, 1.0)
    assert path.value == pytest.approx(wanted, rel=1e-6)


@given(SIGNS)
def test_the_expected_next_value_is_never_above_the_present_one(signs: list[int]) -> None:
    now = s.sign_path(signs, 0.05).value
    after = (s.sign_path([*signs, 1], 0.05).value + s.sign_path([*signs, -1], 0.05).value) / 2
    assert after <= now * (1 + 1e-9)


def test_many_signs_against_do_not_overflow() -> None:
    path = s.sign_path([-1] * 5000, 0.05)
    assert path.crossed_at is None
    assert path.value == pytest.approx(0.0, abs=1e-6)
    assert s.sign_path([1] * 5000, 0.05).crossed_at == 6


@given(STEPS, st.floats(0.05, 1.0), st.floats(0.01, 0.99))
def test_an_event_never_raises_the_expected_rate_evidence_under_the_null(
    steps: list[TwoArmStep], ratio: float, share: float
) -> None:
    now = s.rate_ratio_path(steps, 1.0, HARM, 0.05).value
    hit = s.rate_ratio_path([*steps, TwoArmStep(share, 1 - share, 1, 0)], 1.0, HARM, 0.05).value
    miss = s.rate_ratio_path([*steps, TwoArmStep(share, 1 - share, 0, 1)], 1.0, HARM, 0.05).value
    chance = ratio * share / (ratio * share + 1 - share)
    assert chance * hit + (1 - chance) * miss <= now * (1 + 1e-9)


@given(STEPS)
def test_exposure_in_one_arm_alone_says_nothing(steps: list[TwoArmStep]) -> None:
    before = s.rate_ratio_path(steps, 1.0, HARM, 0.05).value
    lone = [TwoArmStep(50.0, 0.0, 7, 0), TwoArmStep(0.0, 50.0, 0, 7)]
    assert s.rate_ratio_path([*steps, *lone], 1.0, HARM, 0.05).value == pytest.approx(before)


def test_a_mixture_lies_on_one_side() -> None:
    with pytest.raises(ValueError, match="one side"):
        s.rate_ratio_path([], 1.0, (0.5, 2.0), 0.05)


def test_the_ratio_interval_holds_the_truth_and_shrinks() -> None:
    few, many = [TwoArmStep(10, 90, 8, 36)], [TwoArmStep(100, 900, 80, 360)]
    wide, narrow = s.rate_ratio_interval(few, 0.05), s.rate_ratio_interval(many, 0.05)
    assert wide.low < narrow.low < 2.0 < narrow.high < wide.high
    assert narrow.estimate == pytest.approx(2.0, rel=0.02)
    once = s.rate_ratio_interval(many, 0.05, anytime=False)
    assert narrow.low < once.low < once.high < narrow.high
    assert s.rate_ratio_interval([TwoArmStep(1, 1, 0, 0)], 0.05) == s.Interval(0.0, None, math.inf)
    none_in_treated = s.rate_ratio_interval([TwoArmStep(50, 50, 0, 40)], 0.05)
    assert none_in_treated.low == 0.0
    assert none_in_treated.high < 1.0


def test_units_that_differ_are_noticed() -> None:
    rng = np.random.default_rng(3)
    exposure = np.full(200, 100.0)
    alike = s.unit_moments(rng.poisson(5.0, 200).tolist(), exposure.tolist())
    unlike = s.unit_moments(rng.poisson(5.0 * rng.gamma(1, 1, 200)).tolist(), exposure.tolist())
    assert s.frailty([alike]) < 0.1
    assert s.frailty([unlike]) == pytest.approx(1.0, abs=0.35)
    assert s.dispersion([(alike, alike)]) < 1.5
    assert s.dispersion([(unlike, unlike)]) == pytest.approx(6.0, abs=1.8)
    assert s.dispersion([]) == 1.0


def test_no_flip_at_all_is_not_certainty() -> None:
    bounds = s.paired_difference([0] * 100, range(100), 0.95)
    assert (bounds.estimate, round(bounds.high, 3)) == (0.0, 0.027)
    in_tens = s.paired_difference([0] * 100, [i // 10 for i in range(100)], 0.95)
    assert in_tens.high > 0.2


@given(st.lists(st.sampled_from((-1.0, 0.0, 1.0)), min_size=3, max_size=80))
def test_the_paired_interval_is_symmetric_and_holds_its_estimate(differences: list[float]) -> None:
    one = s.paired_difference(differences, range(len(differences)), 0.95)
    other = s.paired_difference([-d for d in differences], range(len(differences)), 0.95)
    assert one.estimate is not None
    assert one.low <= one.estimate <= one.high
    assert one.high == pytest.approx(-other.low, abs=1e-9)


def test_copies_of_a_scenario_are_no_news() -> None:
    rng = np.random.default_rng(4)
    values = rng.choice([-1.0, 0.0, 1.0], 60, p=[0.2, 0.7, 0.1])
    single = s.paired_difference(values.tolist(), range(60), 0.95)
    copied = s.paired_difference(np.repeat(values, 5).tolist(), [i // 5 for i in range(300)], 0.95)
    assert copied.high == pytest.approx(single.high, abs=0.005)


def test_means_and_ratios() -> None:
    assert s.clustered_mean([], [], 0.95).estimate is None
    proportion = s.clustered_mean([1.0] * 5 + [0.0] * 95, range(100), 0.95)
    assert proportion.high == pytest.approx(float(stats.beta.ppf(0.95, 6, 95)))
    assert s.clustered_mean([0.0] * 59, range(59), 0.95).high == pytest.approx(0.0495, abs=1e-3)
    ratio = s.mean_ratio([2.0, 4.0, 6.2, 8.0], [1.0, 2.0, 3.0, 4.0], range(4), 0.95)
    assert ratio.low < 2.0 < ratio.high
    assert s.mean_ratio([1.0], [1.0], ["a"], 0.95).estimate is None


def test_a_rate_interval_widens_when_units_differ() -> None:
    even = s.rate_interval([5.0] * 10, [100.0] * 10, 0.95)
    uneven = s.rate_interval([50.0] + [0.0] * 9, [100.0] * 10, 0.95)
    assert even.low == pytest.approx(float(stats.gamma.ppf(0.025, 50)) / 1000)
    assert uneven.low < even.low < 0.05 < even.high < uneven.high
    assert s.rate_interval([], [], 0.95) == s.Interval(0.0, None, math.inf)
    assert s.rate_interval([0.0], [3.0], 0.95).high == pytest.approx(1.23, abs=0.01)


def test_planning_follows_common_sense() -> None:
    def needed(ratio: float, share: float = 0.1) -> float:
        return s.events_needed(1.0, ratio, HARM, share=share, alpha=0.05, power=0.8)

    assert needed(3.0) < needed(2.0) < needed(1.5)
    assert 15 < needed(2.0) < 30
    assert needed(1.0) == math.inf
    assert s.pairs_needed(0.04, 0.02, 0.05, 0.8) == pytest.approx(922, abs=10)
