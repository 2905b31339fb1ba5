"""Incidents prevented and what versions cost, worked out by hand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from control_plane.factory.domain import JobCost
from control_plane.kit.statistics import rate_interval
from control_plane.rollout.domain import Bill, Compared, Driven, Sum, prevented, summed, way_of, whole

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_example_by_hand() -> None:
    """40 incidents in 10 km before, 8 in 8 km after, 5 km since the promotion: (4 - 1) * 5 = 15."""
    found = prevented([Compared(5.0, Driven([20, 20], [5.0, 5.0]), Driven([4, 4], [4.0, 4.0]))])
    # Garwood's exact bounds of 40 and of 8 events: chi-squared quantiles of any table, halved.
    low_before, high_before = 28.577 / 10, 54.469 / 10
    low_after, high_after = 3.4538 / 8, 15.7632 / 8
    assert found.estimate == pytest.approx(15.0)
    assert found.low == pytest.approx(15 - 5 * math.hypot(4 - low_before, high_after - 1), rel=1e-3)
    assert found.high == pytest.approx(15 + 5 * math.hypot(high_before - 4, 1 - low_after), rel=1e-3)
    assert found.is_certain
    assert (found.exposure, found.left_out) == (5.0, 0.0)


def test_what_cannot_be_told_apart_from_none_is_not_certain() -> None:
    found = prevented([Compared(5.0, Driven([2], [1.0]), Driven([1], [1.0]))])
    assert found.low < 0 < found.high
    assert not found.is_certain


def test_a_version_that_is_worse_is_certain_below_zero() -> None:
    found = prevented([Compared(10.0, Driven([5, 5], [10.0, 10.0]), Driven([60, 60], [10.0, 10.0]))])
    assert found.is_certain
    assert found.high < 0


def test_sites_are_compared_with_themselves() -> None:
    """Each site has the same rate before and after; only where they drive has changed, which prevents nothing."""
    quiet = Compared(90.0, Driven([1, 1], [10.0, 10.0]), Driven([9, 9], [90.0, 90.0]))
    loud = Compared(10.0, Driven([90, 90], [90.0, 90.0]), Driven([10, 10], [10.0, 10.0]))
    assert prevented([quiet, loud]).estimate == pytest.approx(0.0)


def test_where_the_baseline_never_was_nothing_is_said() -> None:
    found = prevented([Compared(3.0, Driven(), Driven([1], [2.0]))])
    assert (found.estimate, found.exposure, found.left_out) == (None, 0.0, 3.0)
    assert not found.is_certain
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not prevented([]).is_certain


def test_devices_that_differ_widen_it() -> None:
    alike = prevented([Compared(5.0, Driven([10] * 4, [5.0] * 4), Driven([4] * 4, [5.0] * 4))])
    uneven = prevented([Compared(5.0, Driven([0, 0, 0, 40], [5.0] * 4), Driven([4] * 4, [5.0] * 4))])
    assert uneven.low < alike.low
    assert alike.estimate == uneven.estimate


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held, tries = np.random.default_rng(7), 0, 400
    for _ in range(tries):
        before, after = rng.poisson([6.0] * 8), rng.poisson([3.0] * 8)
        strata = [Compared(20.0, Driven(before.tolist(), [2.0] * 8), Driven(after.tolist(), [2.0] * 8))]
        found = prevented(strata)
        held += found.low <= 20.0 * 1.5 <= found.high
    assert held / tries > 0.93
    assert rate_interval([6], [2.0], 0.95).estimate == 3.0


def cost(key: str, usd: float, *, measured: bool = True, run: str | None = None, at: int = 0) -> JobCost:
    return JobCost(key, "simulate", run, "", usd, usd * 100, not measured, START + timedelta(hours=at))


def test_each_job_is_paid_for_once_and_in_part_where_part_of_it_was_used() -> None:
    costs = {each.key: each for each in (cost("a", 1.0), cost("b", 2.0, measured=False))}
    assert summed({"a": 1.0, "unknown": 1.0}, costs) == Sum(1, 1.0, 100.0, energy_is_estimate=False)
    assert summed(whole(["b", "a", "a"]), costs) == Sum(2, 3.0, 300.0, energy_is_estimate=True)
    assert summed({"a": 1.0, "b": 0.25}, costs) == Sum(2, 1.5, 150.0, energy_is_estimate=True)
    assert Bill(simulation=frozenset({"a"}), gate={"a": 0.5, "b": 0.5}).shares == {"a": 1.0, "b": 0.5}
    assert Sum(4, 3.0, 300.0).per(2.5) == Sum(4, 1.2, 120.0)


def test_a_promotion_pays_for_what_was_tried_in_vain_before_it() -> None:
    bills = {n: Bill(training=frozenset({f"t{n}"}), simulation=frozenset({"shared"})) for n in range(1, 6)}
    costs = {key: cost(key, 1.0) for key in ("shared", "t1", "t2", "t3", "t4", "t5")}
    assert set(way_of(1, START, bills, [1, 4], costs)) == {"t1", "shared"}
    assert set(way_of(4, START, bills, [1, 4], costs)) == {"t2", "t3", "t4", "shared"}


def test_a_promotion_pays_for_nothing_that_came_later_or_was_for_another_version() -> None:
    costs = {
        each.key: each
        for each in (
            cost("train-1", 1.0, run="one"),
            cost("own", 1.0, run="one"),
            cost("as-champion", 1.0, run="two"),
            cost("by-hand", 1.0),
            cost("later", 1.0, run="one", at=2),
            cost("champion-of-mine", 1.0, run="zero"),
        )
    }
    first = Bill(
        training=frozenset({"train-1"}),
        simulation=frozenset({"own", "as-champion", "by-hand", "later"}),
        gate={"champion-of-mine": 0.5},
        runs=frozenset({"one"}),
    )
    second = Bill(runs=frozenset({"two"}))
    way = way_of(1, START + timedelta(hours=1), {1: first, 2: second}, [1], costs)
    assert way == {"train-1": 1.0, "own": 1.0, "by-hand": 1.0, "champion-of-mine": 0.5}
