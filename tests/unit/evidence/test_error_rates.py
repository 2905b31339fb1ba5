"""Small, fast simulations from fixed seeds; tests/proofs/errors.py has the long ones."""

import numpy as np

from control_plane.evaluation.domain import Verdict, decide_gate
from control_plane.rollout.domain import Gravest, Plan, Stage, Stratum, weigh
from tests.unit.evidence.worlds import Arm, Field, halted, paired, policy, share, suite

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
