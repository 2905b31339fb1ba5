"""What a plan needs to see harm depends on the harm; what it needs to show that there is none does not."""

from control_plane.rollout.domain import FleetStratum, Plan, Stage, Stratum, need_lines, plan_exposure
from control_plane.rollout.domain.planner import StageNeed

FLEET = [FleetStratum(Stratum("hall", "arm"), 36, 4.0, 2.9)]
DAY = 86_400.0
PLAN = Plan((Stage(0.25, 100.0, 7 * DAY), Stage(0.5, 100.0, 7 * DAY, min_exposure=2.0, must_prove=False)), margin=0.5)


def stages(ratio: float) -> tuple[StageNeed, ...]:
    return plan_exposure(PLAN, FLEET, detect_ratio=ratio).stages


def test_a_greater_effect_is_seen_sooner_and_safety_takes_the_same() -> None:
    small, double, large = (stages(ratio)[0] for ratio in (1.5, 2.0, 3.0))
    assert small.to_see > double.to_see > large.to_see > 0
    assert small.to_prove == double.to_prove == large.to_prove
    assert large.exposure_needed == large.to_prove
    assert small.days(small.to_see) == small.to_see / small.exposure_per_day


def test_a_stage_that_need_not_prove_still_says_when_harm_shows() -> None:
    second = stages(2.0)[1]
    assert second.to_prove is None
    assert second.exposure_needed == 2.0
    assert 0 < second.to_see < stages(1.5)[1].to_see


def item(stage: int, ratio: float, **more: object) -> dict[str, object]:
    kept = {"stage": stage, "ratio": ratio, "fraction": 0.25, "canary_devices": 9, "control_devices": 27}
    return kept | {"exposure_needed": 18.0, "days_needed": 2.0, "can_decide": True} | more


def test_the_stage_comes_first_and_then_each_effect() -> None:
    proof = {"exposure": 18.0, "days": 2.0, "in_time": True}
    never = {"exposure": None, "days": None, "in_time": False}
    needs = [
        item(0, ratio, to_see={"exposure": 9 / ratio, "days": 1.0, "in_time": ratio > 2}, to_prove=proof)
        for ratio in (3.0, 1.5)
    ]
    later = item(1, 2.0, to_see=never, to_prove=None)
    last = item(2, 2.0, control_devices=0, to_see=never, to_prove=None)
    lines = need_lines([*needs, later, last])
    assert [(line.words, line.exposure, line.in_time) for line in lines] == [
        ("show no worse", 18.0, True),
        ("see 1.5 times", 6.0, False),
        ("see 3 times", 3.0, True),
        ("drive its least", 18.0, True),
        ("see 2 times", None, False),
    ]


def test_a_forecast_kept_from_before_says_that_its_number_is_for_both() -> None:
    [line] = need_lines([item(0, 2.0)])
    assert (line.words, line.exposure, line.in_time) == ("decide on 2 times", 18.0, True)
