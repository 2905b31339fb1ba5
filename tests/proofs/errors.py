"""Error rates and power of the gate and the canary, by simulation from fixed seeds.

`python -m tests.proofs.errors` prints one JSON line per figure. Effect sizes are those measured on the reference
workload; a figure is `ok` when it keeps to its bound: error rates at most alpha, power at least what is promised.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from control_plane.evaluation.domain import GatePolicy, PairedSuite, Verdict, decide_gate
from control_plane.kit.slices import TwoArmStep
from control_plane.kit.statistics import rate_ratio_path
from control_plane.rollout.domain import FleetStratum, Gravest, Plan, Stage, Stratum, plan_exposure, weigh
from tests.proofs.sequential import measure
from tests.unit.evidence.worlds import Arm, Field, halted, paired, paired_in_clusters, policy, share, suite

ALPHA = 0.05
PLAN = Plan((Stage(0.1, 1e9, 1e9), Stage(1.0, 1e9, 1e9)), gravest=Gravest.OFF)
IMPROVES = {"suite": "field", "rule": "improves"}
NO_WORSE = {"suite": "field", "rule": "non_inferior", "margin": 0.03}
HALL, ANNEX, COLD = (Stratum(site, "sim-amr") for site in ("hall", "annex", "cold_store"))
ONE_SITE = (Arm(HALL, 10, 90, 2.9),)
SITES = (Arm(HALL, 2, 38, 0.55), Arm(ANNEX, 10, 30, 3.4), Arm(COLD, 24, 16, 4.9))
OTHER_SITES = (Arm(HALL, 24, 16, 0.55), Arm(ANNEX, 10, 30, 3.4), Arm(COLD, 2, 38, 4.9))

Proof = dict[str, object]


def prove() -> list[Proof]:
    return [proof() for proof in PROOFS]


def at_most(name: str, bound: float, figure: Callable[[], float]) -> Callable[[], Proof]:
    return lambda: _timed(name, bound, figure, over=False)


def at_least(name: str, bound: float, figure: Callable[[], float]) -> Callable[[], Proof]:
    return lambda: _timed(name, bound, figure, over=True)


def _timed(name: str, bound: float, figure: Callable[[], float], *, over: bool) -> Proof:
    begun = time.perf_counter()
    value = figure()
    ok = value >= bound if over else value <= bound
    seconds = round(time.perf_counter() - begun, 2)
    proof = {"proof": name, "figure": round(value, 4), "unit": "share of runs"}
    return {**proof, "bound": bound, "ok": bool(ok), "seconds": seconds}


# --- the gate -------------------------------------------------------------------------------------------------------


def gate(
    rule: dict[str, object], verdict: Verdict, runs: int, size: int, *, broke: float, fixed: float
) -> Callable[[], float]:
    def figure() -> float:
        rng, rules = np.random.default_rng(81), policy(rule)
        return share([_verdict(rules, suite(*paired(rng, size, broke, fixed))) is verdict for _ in range(runs)])

    return figure


def gate_in_clusters(rule: dict[str, object], verdict: Verdict, *, broke: float, fixed: float) -> Callable[[], float]:
    def figure() -> float:
        rng, rules = np.random.default_rng(82), policy(rule)
        worlds = (paired_in_clusters(rng, 60, 5, broke, fixed) for _ in range(1000))
        return share([_verdict(rules, suite(*world)) is verdict for world in worlds])

    return figure


def _verdict(rules: GatePolicy, evidence: PairedSuite) -> Verdict:
    return decide_gate(rules, [evidence]).verdict


def simulations_used() -> float:
    """The mean over the reference workload's candidates of the share of simulations that the gate needs."""
    return float(np.mean([share_used for share_used, _, _ in measure(15).values()]))


# --- the canary -----------------------------------------------------------------------------------------------------


def canary(world: Field, ratio: float, runs: int, *, look_every: int = 0) -> Callable[[], float]:
    def figure() -> float:
        rng = np.random.default_rng(83)
        return share([halted(PLAN, world, rng, ratio, look_every=look_every) for _ in range(runs)])

    return figure


def promoted(world: Field, ratio: float, runs: int) -> Callable[[], float]:
    def figure() -> float:
        rng = np.random.default_rng(84)
        paths = (weigh(PLAN, world.run(rng, ratio)[0]).safe.path for _ in range(runs))
        return share([path.crossed_at is not None for path in paths])

    return figure


def pooled_over_sites(runs: int) -> float:
    """What happens without strata: the same canary, all sites thrown together."""
    rng = np.random.default_rng(83)
    return share([_pooled(rng) for _ in range(runs)])


def _pooled(rng: Generator) -> bool:
    increments, _ = Field(SITES, 40, 0.02).run(rng, 1.0)
    rows: dict[int, list[float]] = {}
    for step in increments:
        row = rows.setdefault(step.bucket, [0, 0, 0, 0])
        for i, value in enumerate(
            (step.canary_exposure, step.control_exposure, step.canary_events, step.control_events)
        ):
            row[i] += value
    steps = [TwoArmStep(a, b, int(c), int(d)) for a, b, c, d in rows.values()]
    return rate_ratio_path(steps, 1.0, PLAN.harm_ratios, ALPHA).crossed_at is not None


def planned(question: str) -> Callable[[], float]:
    """Give the plan exactly the exposure that the planner asks for, and see how often it decides."""

    def figure() -> float:
        fleet = [FleetStratum(HALL, 100, 4.0, 2.9)]
        need = plan_exposure(PLAN, fleet, detect_ratio=2.0, power=0.8).stages[0].exposure_needed
        world = Field(ONE_SITE, 40, need / 10 / 40)
        if question == "harm":
            return canary(world, 2.0, 400)()
        return promoted(world, 1.0, 400)()

    return figure


FAIL, PASS = Verdict.FAIL, Verdict.PASS
PROOFS = [
    at_most("gate: an equal model shown as better", ALPHA, gate(IMPROVES, PASS, 1500, 300, broke=0.05, fixed=0.05)),
    at_most("gate: an equal model shown as worse", ALPHA, gate(IMPROVES, FAIL, 1500, 300, broke=0.05, fixed=0.05)),
    at_most(
        "gate: an equal model shown as better, scenarios in clusters of 5",
        ALPHA,
        gate_in_clusters(IMPROVES, PASS, broke=0.15, fixed=0.15),
    ),
    at_most(
        "gate: a model worse by the margin passes, flips one way",
        ALPHA,
        gate(NO_WORSE, PASS, 3000, 400, broke=0.03, fixed=0.0),
    ),
    at_most(
        "gate: a model worse by the margin passes, flips both ways",
        ALPHA,
        gate(NO_WORSE, PASS, 3000, 400, broke=0.05, fixed=0.02),
    ),
    at_most(
        "gate: a model worse by the margin passes, clusters of 5 (nominal 0.05, an approximation)",
        0.06,
        gate_in_clusters({**NO_WORSE, "margin": 0.096}, PASS, broke=0.15, fixed=0.05),
    ),
    at_least(
        "gate: an equal model is shown to be no worse (400 scenarios, margin 0.03)",
        0.9,
        gate(NO_WORSE, PASS, 500, 400, broke=0.01, fixed=0.01),
    ),
    at_least(
        "gate: the loop's improvement (0.19 to 0.066 incidents) is shown in 150 scenarios",
        0.95,
        gate(IMPROVES, PASS, 500, 150, broke=0.005, fixed=0.124),
    ),
    at_least(
        "gate: the subtle candidate (0.38 to 0.61 on 120 regression scenarios) fails",
        0.95,
        gate(IMPROVES, FAIL, 500, 120, broke=0.28, fixed=0.05),
    ),
    at_most("gate: share of the fixed-size gate's simulations that it uses, 10 candidates", 0.40, simulations_used),
    at_most("canary: an equal model is halted, 10 of 100 devices", ALPHA, canary(Field(ONE_SITE, 60, 0.1), 1.0, 1500)),
    at_most(
        "canary: an equal model is halted, 3 of 30 devices that differ (frailty 1)",
        ALPHA,
        canary(Field((Arm(HALL, 3, 27, 0.002),), 28, 100.0, 1.0), 1.0, 400, look_every=1),
    ),
    at_most(
        "canary: an equal model is halted, 5 of 50 busy devices that differ (frailty 0.3)",
        ALPHA,
        canary(Field((Arm(HALL, 5, 45, 0.01),), 14, 100.0, 0.3), 1.0, 400, look_every=1),
    ),
    at_most(
        "canary: an equal model is halted, canaries at the bad site (9 times the rate)",
        ALPHA,
        canary(Field(SITES, 40, 0.02), 1.0, 1000),
    ),
    at_least("without strata the same canary would be halted (why strata)", 0.5, lambda: pooled_over_sites(300)),
    at_least(
        "canary: a model 2.3 times worse is halted within 10 km, canaries at the good site",
        0.8,
        canary(Field(OTHER_SITES, 40, 10 / 36 / 40), 2.3, 400),
    ),
    at_least(
        "canary: the subtle candidate (2.3 times the incidents) is halted within 10 km",
        0.9,
        canary(Field(ONE_SITE, 50, 0.02), 2.3, 500),
    ),
    at_most("canary: a model worse by the margin is promoted", ALPHA, promoted(Field(ONE_SITE, 60, 0.1), 2.0, 1500)),
    at_least("planner: an equal model is promoted within the exposure it asks for", 0.8, planned("safe")),
    at_least("planner: a model twice as bad is halted within the exposure it asks for", 0.8, planned("harm")),
]


def main() -> int:
    bad = 0
    for proof in PROOFS:
        line = proof()
        bad += not line["ok"]
        print(json.dumps(line), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
