"""Small, fast simulations from fixed seeds; tests/proofs/errors.py has the long ones."""

from dataclasses import replace

import numpy as np
import pytest

from control_plane.evaluation.domain import PairedSuite, Verdict, decide_gate
from control_plane.rollout.domain import Control, Gravest, Increment, Plan, Stage, Stratum, Watch, weigh
from tests.unit.evidence.fields import Field as LateField
from tests.unit.evidence.fields import Lateness, Past, ever_halted, ever_promoted, history_halts
from tests.unit.evidence.worlds import (
    Arm,
    Field,
    beginning,
    halted,
    paired,
    paired_in_clusters,
    policy,
    share,
    side,
    suite,
)

PLAN = Plan((Stage(0.1, 1e9, 1e9),), gravest=Gravest.OFF)
HALL, COLD = Stratum("hall", "amr"), Stratum("cold_store", "amr")
ONE_SITE = Field((Arm(HALL, 10, 90, 2.9),), 40, 0.1)


def verdicts(rule: dict[str, object], size: int, broke: float, fixed: float, runs: int = 150) -> list[Verdict]:
    rng, rules = np.random.default_rng(11), policy({"suite": "field", **rule})
    return [decide_gate(rules, [suite(*paired(rng, size, broke, fixed))]).verdict for _ in range(runs)]


def test_an_equal_model_is_rarely_called_better_or_worse() -> None:
    found = verdicts({"rule": "improves"}, 200, 0.05, 0.05)
    assert found.count(Verdict.PASS) <= 0.05 * len(found)
    assert found.count(Verdict.FAIL) <= 0.05 * len(found)


def test_a_model_worse_by_the_margin_rarely_passes() -> None:
    found = verdicts({"rule": "non_inferior", "margin": 0.05}, 200, 0.06, 0.01)
    assert found.count(Verdict.PASS) <= 0.07 * len(found)


def looked_at(rule: dict[str, object], made: PairedSuite, every: int) -> list[Verdict]:
    """What the gate says at every look; `made` is judged on longer and longer beginnings."""
    rules, size = policy({"suite": "field", **rule}), len(made.scenarios)
    return [decide_gate(rules, [beginning(made, seen)]).verdict for seen in range(every, size + 1, every)]


@pytest.mark.parametrize(
    ("rule", "broke", "fixed", "wrong"),
    [
        ({"rule": "non_inferior", "margin": 0.05}, 0.06, 0.01, Verdict.PASS),
        ({"rule": "non_inferior", "margin": 0.05}, 0.03, 0.03, Verdict.FAIL),
        ({"rule": "absolute_at_most", "bound": 0.08}, 0.06, 0.0, Verdict.PASS),
        ({"rule": "absolute_at_most", "bound": 0.08}, 0.06, 0.0, Verdict.FAIL),
        ({"rule": "improves"}, 0.05, 0.05, Verdict.PASS),
        ({"rule": "improves"}, 0.05, 0.05, Verdict.FAIL),
    ],
)
def test_looking_all_the_time_makes_no_more_errors(
    rule: dict[str, object], broke: float, fixed: float, wrong: Verdict
) -> None:
    rng = np.random.default_rng(31)
    runs = [looked_at(rule, suite(*paired(rng, 240, broke, fixed)), 40) for _ in range(100)]
    assert share([wrong in said for said in runs]) <= 0.05
    firsts = [[v for v in said if v is not Verdict.INCONCLUSIVE] for said in runs]
    assert all(len(set(decided)) <= 1 for decided in firsts)  # what was decided stays decided


def test_looking_all_the_time_at_clusters_makes_no_more_errors() -> None:
    rng, rule = np.random.default_rng(32), {"rule": "non_inferior", "margin": 0.096}
    runs = [looked_at(rule, suite(*paired_in_clusters(rng, 50, 4, 0.15, 0.05)), 40) for _ in range(100)]
    assert share([Verdict.PASS in said for said in runs]) <= 0.05


def test_looking_all_the_time_at_mission_time_makes_no_more_errors() -> None:
    rng = np.random.default_rng(33)
    rule = {"rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1, "limits": [0, 40]}
    for true_ratio, wrong in ((1.1, Verdict.PASS), (1.1, Verdict.FAIL)):
        runs = []
        for _ in range(60):
            theirs = rng.uniform(12, 24, 200)
            ours = np.clip(theirs * true_ratio + rng.normal(0, 3, 200), 0, 40)
            made = suite([0] * 200, [0] * 200)
            sides = {"candidate": ours, "champion": theirs}
            timed = {name: side(name, [0] * 200, duration_s=values.tolist()) for name, values in sides.items()}
            runs.append(looked_at(rule, replace(made, **timed), 40))
        assert share([wrong in said for said in runs]) <= 0.05


def test_the_improvement_of_the_loop_is_seen() -> None:
    found = verdicts({"rule": "improves"}, 150, 0.005, 0.124, 60)
    assert found.count(Verdict.PASS) >= 0.95 * len(found)


def test_an_equal_model_is_rarely_halted() -> None:
    rng = np.random.default_rng(12)
    assert share([halted(PLAN, ONE_SITE, rng, 1.0) for _ in range(200)]) <= 0.05


def test_devices_that_differ_do_not_halt_an_equal_model() -> None:
    rng = np.random.default_rng(13)
    world = Field((Arm(HALL, 5, 45, 0.01),), 14, 100.0, 0.5)
    assert share([halted(PLAN, world, rng, 1.0, look_every=2) for _ in range(100)]) <= 0.05


def test_a_site_mix_does_not_halt_an_equal_model() -> None:
    rng = np.random.default_rng(14)
    world = Field((Arm(HALL, 2, 38, 0.55), Arm(COLD, 30, 10, 4.9)), 40, 0.05)
    assert share([halted(PLAN, world, rng, 1.0) for _ in range(200)]) <= 0.05


def test_the_subtle_candidate_is_halted() -> None:
    rng = np.random.default_rng(15)
    assert share([halted(PLAN, ONE_SITE, rng, 2.3) for _ in range(60)]) >= 0.95


def test_a_model_worse_by_the_margin_is_rarely_promoted() -> None:
    rng = np.random.default_rng(16)
    runs = [weigh(PLAN, ONE_SITE.run(rng, 2.0)[0]).safe.crossed for _ in range(200)]
    assert share(runs) <= 0.05


MIXED = (Arm(HALL, 2, 38, 0.28 / 500), Arm(COLD, 24, 16, 2.45 / 500))
LATE = Lateness(mean=2, canary=2, offline_share=0.2, offline_looks=6)


@pytest.mark.parametrize(
    "world",
    [
        LateField((Arm(HALL, 10, 90, 1 / 500),), 14, 50.0, 0.0, LATE),
        LateField(MIXED, 14, 50.0, 0.0, LATE),
        LateField(MIXED, 14, 50.0, 0.3, LATE),
    ],
    ids=["late", "late and sites that differ", "late, sites and devices that differ"],
)
def test_telemetry_that_comes_late_does_not_halt_an_equal_model(world: LateField) -> None:
    rng = np.random.default_rng(17)
    assert share([ever_halted(PLAN, world.drive(rng, 1.0), world.looks) is not None for _ in range(60)]) <= 0.05


def test_telemetry_that_comes_late_does_not_let_a_model_pass_that_is_worse_by_the_margin() -> None:
    rng, world = np.random.default_rng(18), LateField(MIXED, 14, 50.0, 0.0, LATE)
    assert share([ever_promoted(PLAN, world.drive(rng, 2.0), world.looks) for _ in range(60)]) <= 0.05


def test_several_counts_together_halt_an_equal_model_no_oftener_than_one() -> None:
    """Incidents, the gravest kind and two watched counts, all by chance: alpha is split, not spent four times."""
    rng = np.random.default_rng(19)
    watch = tuple(Watch(name, (name,), 0.2) for name in ("brakes", "stalls"))
    plan = Plan((Stage(0.1, 1e9, 1e9),), gravest=Gravest.EXCESS, watch=watch)

    def increments() -> list[Increment]:
        draws = rng.poisson([[1.0] * 4, [9.0] * 4], (30, 2, 4))
        return [
            Increment(i, HALL, 1.0, 9.0, *(int(d[arm, n]) for n in (0, 1) for arm in (0, 1)), tuple(d[0, 2:].tolist()),
                      tuple(d[1, 2:].tolist()))
            for i, d in enumerate(draws)
        ]  # fmt: skip

    assert share([any(test.crossed for test in weigh(plan, increments()).harms) for _ in range(300)]) <= 0.05


@pytest.mark.parametrize("frailty", [0.0, 0.5])
def test_their_own_past_does_not_accuse_devices_and_sees_harm(frailty: float) -> None:
    plan = Plan((Stage(1.0, 1e9, 1e9),), gravest=Gravest.OFF, control=Control.HISTORY)
    past = Past(10, 1 / 10, 60.0, 15, frailty)
    rng = np.random.default_rng(20)
    assert share([history_halts(plan, past, rng, 1.0) for _ in range(120)]) <= 0.05
    assert share([history_halts(plan, past, rng, 3.0) for _ in range(20)]) >= 0.9


def test_both_controls_share_alpha() -> None:
    """Each control gets half: together they halt an equal model no oftener than either would alone."""
    plan = Plan((Stage(0.1, 1e9, 1e9),), gravest=Gravest.OFF, control=Control.BOTH)
    needed = {test.name: test.needed for test in weigh(plan, ()).harms}
    assert needed == {"harm": 40.0, "history_harm": 40.0}
    rng, world, past = np.random.default_rng(21), ONE_SITE, Past(10, 1 / 10, 60.0, 15)

    def halts() -> bool:
        *_, known = past.histories(rng, 1.0)
        return any(test.crossed for test in weigh(plan, world.run(rng, 1.0)[0], (), known).harms)

    assert share([halts() for _ in range(120)]) <= 0.05
