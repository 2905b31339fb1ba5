import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.rollout.domain import (
    EVERYONE,
    FleetStratum,
    Plan,
    Stage,
    Stratum,
    assigned_stage,
    canaries_in,
    plan_exposure,
    score,
    stage_of,
    thresholds,
)

DEVICES = st.lists(st.uuids().map(str), unique=True, min_size=1, max_size=60)
FRACTIONS = st.lists(st.floats(0.01, 1.0), unique=True, min_size=1, max_size=4).map(sorted)
HALL = Stratum("hall", "amr")
DAY = 86_400.0


@given(DEVICES, FRACTIONS)
def test_small_strata_get_exact_counts_and_always_a_control(devices: list[str], fractions: list[float]) -> None:
    limits = thresholds("r", devices, fractions)
    for stage, fraction in enumerate(fractions):
        chosen = sum(score("r", device) < limits[stage] for device in devices)
        if len(devices) >= 2:
            assert chosen == canaries_in(len(devices), fraction)
            assert chosen >= 1
            assert chosen <= len(devices) - 1 or fraction == 1.0
        if fraction == 1.0:
            assert chosen == len(devices)


@given(DEVICES, FRACTIONS)
def test_widening_keeps_who_is_in(devices: list[str], fractions: list[float]) -> None:
    limits = thresholds("r", devices, fractions)
    assert list(limits) == sorted(limits)
    for device in devices:
        stage = assigned_stage("r", device, devices, fractions)
        assert stage == stage_of(score("r", device), limits)
        assert [score("r", device) < limit for limit in limits] == [
            stage is not None and i >= stage for i in range(len(limits))
        ]


@given(DEVICES, DEVICES, FRACTIONS)
def test_late_joiners_push_nobody_out(first: list[str], late: list[str], fractions: list[float]) -> None:
    before = thresholds("r", first, fractions)
    after = thresholds("r", {*first, *late}, fractions, before)
    assert all(new >= old for new, old in zip(after, before, strict=True))


def test_large_strata_use_the_fraction_itself() -> None:
    devices = [f"d{i}" for i in range(5000)]
    (limit,) = thresholds("r", devices, [0.1])
    assert limit == int(0.1 * EVERYONE)
    assert sum(score("r", device) < limit for device in devices) == pytest.approx(500, abs=80)


def test_the_score_is_what_sql_can_compute_and_differs_by_rollout() -> None:
    assert score("r", "d") == int(hashlib.sha256(b"r/d").hexdigest()[:15], 16) < EVERYONE < 2**63
    first = {device for device in map(str, range(100)) if score("r1", device) < EVERYONE // 10}
    second = {device for device in map(str, range(100)) if score("r2", device) < EVERYONE // 10}
    assert first != second


def plan(**stage: float) -> Plan:
    return Plan((Stage(0.1, stage.get("cap", 100.0), stage.get("days", 7.0) * DAY), Stage(1.0, 1e6, 7 * DAY)))


def test_a_plan_that_can_decide_says_what_it_needs() -> None:
    forecast = plan_exposure(plan(), [FleetStratum(HALL, 100, 4.0, 2.9)])
    first, last = forecast.stages
    assert forecast.can_decide
    assert (first.canary_devices, first.control_devices) == (10, 90)
    assert 4 < first.exposure_needed < 20
    assert first.days_needed == pytest.approx(first.exposure_needed / 40)
    assert (last.canary_devices, last.control_devices, last.exposure_needed) == (100, 0, 0.0)


@pytest.mark.parametrize(
    ("stage", "fleet", "said"),
    [
        ({"cap": 2.0}, [FleetStratum(HALL, 100, 4.0, 2.9)], "may have at most 0.002 km"),
        ({"days": 0.01}, [FleetStratum(HALL, 100, 4.0, 2.9)], "move its deadline"),
        ({}, [FleetStratum(HALL, 100, 4.0, 0.0)], "too few events"),
        ({}, [FleetStratum(HALL, 100, 100.0, 2e-5)], "raise its cap"),
        ({}, [], "reaches no device"),
        ({}, [FleetStratum(HALL, 1, 4.0, 2.9)], "reaches no device"),
    ],
)
def test_a_stage_that_cannot_decide_is_refused(stage: dict[str, float], fleet: list[FleetStratum], said: str) -> None:
    forecast = plan_exposure(plan(**stage), fleet)
    assert not forecast.can_decide
    assert said in forecast.because


def test_devices_that_differ_need_more_or_cannot_tell() -> None:
    fleet = [FleetStratum(HALL, 100, 4.0, 2.9)]
    alike = plan_exposure(plan(), fleet).stages[0].exposure_needed
    unlike = plan_exposure(plan(), fleet, frailty=0.2).stages[0].exposure_needed
    assert alike < unlike < math.inf
    assert plan_exposure(plan(), fleet, frailty=1.0).stages[0].exposure_needed == math.inf
