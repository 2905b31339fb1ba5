"""What the field says so far: canary against concurrent control, stratum by stratum, and against its own past."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from control_plane.kit import statistics
from control_plane.kit.slices import Slices
from control_plane.kit.statistics import EPath, Interval
from control_plane.rollout.domain.ledger import GRAVEST, INCIDENTS, WATCHED, Joined, Ledger
from control_plane.rollout.domain.values import ArmSpread, Control, Gravest, History, Increment, Plan

SAFE_ERRORS = 1.0
"""To widen, devices are taken to differ by this many standard errors more than they seem to."""

LEAST_FRAILTY = 0.02
"""Devices are never taken to be all alike when their own past is the control."""


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """An e-process with its part of alpha: it has decided once it ever reached `needed`."""

    name: str
    path: EPath
    needed: float
    canary_events: int
    control_events: int

    @property
    def crossed(self) -> bool:
        return self.path.crossed_at is not None

    @property
    def progress(self) -> float:
        """How far it is on its way from 1 to `needed`, on the scale on which evidence adds up."""
        return math.log(max(self.path.peak, 1e-300)) / math.log(self.needed)


@dataclass(frozen=True, slots=True)
class Evidence:
    """`harms` halt, each by itself; one of `safes` is enough to widen."""

    harms: tuple[SequentialTest, ...]
    safes: tuple[SequentialTest, ...]
    ratio: Interval
    canary_exposure: float
    control_exposure: float
    canary_events: int
    control_events: int
    canary_gravest: int
    dispersion: float

    @property
    def harm(self) -> SequentialTest:
        """The harm test that is nearest to its decision."""
        return max(self.harms, key=lambda test: test.progress)

    @property
    def safe(self) -> SequentialTest:
        return max(self.safes, key=lambda test: test.progress)

    def figures(self) -> dict[str, float | int | None]:
        tests = {f"{test.name}_e": test.path.peak for test in (*self.harms, *self.safes)}
        needed = {f"{test.name}_e_needed": test.needed for test in (*self.harms, *self.safes)}
        return {
            **tests,
            **needed,
            "ratio_low": self.ratio.low,
            "ratio": self.ratio.estimate,
            "ratio_high": self.ratio.high if math.isfinite(self.ratio.high) else None,
            "canary_exposure": self.canary_exposure,
            "control_exposure": self.control_exposure,
            "canary_events": self.canary_events,
            "control_events": self.control_events,
            "canary_gravest": self.canary_gravest,
            "dispersion": self.dispersion,
        }


def safe_ratios(margin: float) -> tuple[float, ...]:
    """Give the rate ratios for which non-inferiority is to be seen soon: from halfway to the margin to well below 1."""
    null = 1 + margin
    return tuple(null**power for power in (0.5, 0.0, -0.5, -1.0))


def weigh(
    plan: Plan,
    increments: Sequence[Increment],
    spreads: Sequence[ArmSpread] = (),
    histories: Sequence[History] = (),
) -> Evidence:
    """Weigh everything seen, in the order in which it happened. Strata multiply: each compares only with itself."""
    ledger = Ledger.of(increments)
    joined = Joined.of(ledger)
    arms = [(s.canary, s.control) for s in spreads]
    spread = statistics.dispersion(arms, plan.frailty_floor)
    at_margin = statistics.dispersion(arms, plan.frailty_floor, 1 + plan.margin, SAFE_ERRORS)
    past = _own_past(histories) if plan.control is not Control.CONCURRENT else Slices.of([])
    (canary, control), main = ledger.driven, joined.slices(INCIDENTS)
    return Evidence(
        harms=tuple(_harms(plan, ledger, joined, spread, past)),
        safes=tuple(_safes(plan, main, at_margin, past)),
        ratio=_ratio(plan, main, spread, past),
        canary_exposure=canary,
        control_exposure=control,
        canary_events=ledger.total(INCIDENTS)[0],
        control_events=ledger.total(INCIDENTS)[1],
        canary_gravest=ledger.total(GRAVEST)[0],
        dispersion=spread,
    )


def _harms(plan: Plan, ledger: Ledger, joined: Joined, spread: float, past: Slices) -> Iterator[SequentialTest]:
    """Test every count with its own part of alpha: together they halt a harmless release in at most alpha of cases."""

    def test(
        name: str, slices: Slices, share: float, counts: tuple[int, int], tempered: float = spread
    ) -> SequentialTest:
        alpha = plan.alpha * share
        path = statistics.rate_ratio_path(slices, 1.0, plan.harm_ratios, alpha, tempered)
        return SequentialTest(name, path, 1 / alpha, *counts)

    concurrent, own = _weights(plan)
    if concurrent:
        yield test("harm", joined.slices(INCIDENTS), plan.harm_share * concurrent, ledger.total(INCIDENTS))
    if own:
        yield test("history_harm", past, plan.harm_share * own, _totals(past), 1.0)
    if plan.gravest is Gravest.EXCESS:
        yield test("gravest", joined.slices(GRAVEST), plan.gravest_share, ledger.total(GRAVEST))
    for place, watch in enumerate(plan.watch, WATCHED):
        yield test(f"watch_{watch.name}", joined.slices(place), watch.share, ledger.total(place))


def _safes(plan: Plan, main: Slices, spread: float, past: Slices) -> Iterator[SequentialTest]:
    concurrent, own = _weights(plan)
    null, ratios = 1 + plan.margin, safe_ratios(plan.margin)
    for name, slices, share, tempered in (("safe", main, concurrent, spread), ("history_safe", past, own, 1.0)):
        if share:
            alpha = plan.alpha * share
            path = statistics.rate_ratio_path(slices, null, ratios, alpha, tempered)
            yield SequentialTest(name, path, 1 / alpha, *_totals(slices))


def _weights(plan: Plan) -> tuple[float, float]:
    """Return the parts of alpha for the concurrent control and for the devices' own past."""
    return {Control.CONCURRENT: (1.0, 0.0), Control.HISTORY: (0.0, 1.0), Control.BOTH: (0.5, 0.5)}[plan.control]


def _ratio(plan: Plan, main: Slices, spread: float, past: Slices) -> Interval:
    if plan.control is Control.HISTORY:
        return statistics.rate_ratio_interval(past, plan.alpha)
    return statistics.rate_ratio_interval(main, plan.alpha, spread)


def _own_past(histories: Sequence[History]) -> Slices:
    ordered = sorted(histories, key=lambda device: device.device_id)
    before = [(float(device.events_before), device.exposure_before) for device in ordered]
    return statistics.own_history(before, [(float(d.events), d.exposure) for d in ordered], LEAST_FRAILTY)


def _totals(slices: Slices) -> tuple[int, int]:
    return round(float(slices.hits.sum())), round(float(slices.misses.sum()))
