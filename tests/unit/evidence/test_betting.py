"""Bets against a null: right as often as they say, at every look, clusters included; and worth their price."""

import math

import numpy as np
import pytest

from control_plane.kit.betting import (
    Blocks,
    above_path,
    anytime_interval,
    below_path,
    margin_detectable,
    pairs_to_bet,
    pairs_to_tell,
    power_of_pairs,
    steps_to_show,
)
from control_plane.kit.statistics import pairs_needed, sign_path

ALPHA = 0.05


def single(values: np.ndarray) -> Blocks:
    return Blocks(tuple(float(v) for v in values), (1.0,) * len(values), 1.0)


def flips(rng: np.random.Generator, size: int, broke: float, fixed: float) -> np.ndarray:
    draw = rng.random(size)
    return np.where(draw < broke, 1.0, np.where(draw < broke + fixed, -1.0, 0.0))


@pytest.mark.parametrize(("broke", "fixed"), [(0.03, 0.0), (0.05, 0.02), (0.2, 0.17)])
def test_a_mean_at_the_bound_is_rarely_shown_to_lie_below(broke: float, fixed: float) -> None:
    rng = np.random.default_rng(21)
    runs = [below_path(single(flips(rng, 600, broke, fixed)), 0.03, 1.0, ALPHA) for _ in range(1000)]
    assert sum(path.crossed_at is not None for path in runs) <= ALPHA * len(runs)


def test_clusters_of_one_draw_count_once() -> None:
    rng = np.random.default_rng(22)
    wrong = naive = 0
    for _ in range(500):
        draws, sizes = flips(rng, 60, 0.1, 0.0), rng.integers(1, 11, 60)
        blocks = Blocks(tuple(draws * sizes), tuple(sizes.astype(float)), 10.0)
        wrong += below_path(blocks, 0.1, 1.0, ALPHA).crossed_at is not None
        naive += below_path(single(np.repeat(draws, sizes)), 0.1, 1.0, ALPHA).crossed_at is not None
    assert wrong <= ALPHA * 500 < naive


def test_a_metric_with_a_range_is_judged_in_both_directions() -> None:
    rng = np.random.default_rng(23)
    for path, bound, edge in ((below_path, 0.5, 1.0), (above_path, 0.5, 0.0)):
        runs = [path(single(rng.beta(2, 2, 200)), bound, edge, ALPHA).crossed_at for _ in range(500)]
        assert sum(crossed is not None for crossed in runs) <= ALPHA * 500
    assert below_path(single(rng.beta(2, 4, 200)), 0.5, 1.0, ALPHA).crossed_at is not None
    assert above_path(single(rng.beta(4, 2, 200)), 0.5, 0.0, ALPHA).crossed_at is not None
    with pytest.raises(ValueError, match="nothing can be shown"):
        below_path(single(np.zeros(3)), 1.0, 1.0, ALPHA)


def test_the_interval_holds_at_every_look_at_once() -> None:
    rng = np.random.default_rng(24)
    missed = 0
    for _ in range(150):
        values = rng.beta(2, 6, 120)
        looks = [anytime_interval(single(values[:n]), 0.0, 1.0, ALPHA) for n in range(10, 121, 10)]
        missed += any(not look.low <= 0.25 <= look.high for look in looks)
    assert missed <= 2 * ALPHA * 150
    last = anytime_interval(single(values), 0.0, 1.0, ALPHA)
    assert last.high - last.low < 0.2
    empty = anytime_interval(Blocks((), (), 1.0), 0.0, 1.0, ALPHA)
    assert (empty.low, empty.estimate, empty.high) == (0.0, None, 1.0)


def test_bound_and_path_say_the_same() -> None:
    values = single(flips(np.random.default_rng(25), 300, 0.01, 0.01))
    high = anytime_interval(values, -1.0, 1.0, ALPHA).high
    assert below_path(values, high + 1e-4, 1.0, ALPHA).log_values[-1] > math.log(1 / ALPHA)
    assert below_path(values, high - 1e-4, 1.0, ALPHA).log_values[-1] < math.log(1 / ALPHA)


def test_power_and_size_are_two_sides_of_one_formula() -> None:
    size = pairs_needed(0.02, 0.03, ALPHA, 0.8)
    assert power_of_pairs(size, 0.02, 0.03, ALPHA) == pytest.approx(0.8, abs=0.01)
    assert margin_detectable(size, 0.02, ALPHA, 0.8) == pytest.approx(0.03, abs=0.001)
    assert margin_detectable(2, 0.5, ALPHA, 0.99) == 1.0


@pytest.mark.parametrize(("broke", "fixed", "margin"), [(0.005, 0.005, 0.03), (0.01, 0.01, 0.05), (0.1, 0.1, 0.1)])
def test_the_planned_size_lets_the_bets_decide(broke: float, fixed: float, margin: float) -> None:
    rng = np.random.default_rng(26)
    size = math.ceil(pairs_to_bet(broke, fixed, margin, ALPHA, 0.8))
    runs = [below_path(single(flips(rng, size, broke, fixed)), margin, 1.0, ALPHA).crossed_at for _ in range(300)]
    assert 0.75 <= sum(crossed is not None for crossed in runs) / 300 <= 0.97


def test_the_planned_size_tells_which_model_is_better() -> None:
    rng = np.random.default_rng(27)
    size = math.ceil(pairs_to_tell(0.005, 0.124, ALPHA, 0.9))
    runs = [sign_path((-flips(rng, size, 0.005, 0.124)).astype(int).tolist(), ALPHA).crossed_at for _ in range(300)]
    assert sum(crossed is not None for crossed in runs) / 300 >= 0.8
    assert size < 130
    assert pairs_to_tell(0.02, 0.02, ALPHA, 0.9) == math.inf
    assert steps_to_show([-1.0, 1.0], [0.5, 0.5], 3.0, 0.8) == math.inf
