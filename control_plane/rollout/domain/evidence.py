"""What the field says so far: canary against concurrent control, stratum by stratum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.kit import statistics
from control_plane.kit.statistics import EPath, Interval, TwoArmStep
from control_plane.rollout.domain.values import ArmSpread, Gravest, Increment, Plan, Stratum


@dataclass(frozen=True, slots=True)
class Evidence:
    """`harm`, `gravest` and `safe` are e-processes; they have decided once they ever reached their `needed` value."""

    harm: EPath
    harm_needed: float
    gravest: EPath | None
    gravest_needed: float
    safe: EPath
    safe_needed: float
    ratio: Interval
    canary_exposure: float
    control_exposure: float
    canary_events: int
    control_events: int
    canary_gravest: int
    dispersion: float

    def figures(self) -> dict[str, float | int | None]:
        return {
            "harm_e": self.harm.peak,
            "harm_e_needed": self.harm_needed,
            "gravest_e": self.gravest.peak if self.gravest else None,
            "gravest_e_needed": self.gravest_needed if self.gravest else None,
            "safe_e": self.safe.peak,
            "safe_e_needed": self.safe_needed,
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


def weigh(plan: Plan, increments: Sequence[Increment], spreads: Sequence[ArmSpread] = ()) -> Evidence:
    """Weigh everything seen, in time order. Strata multiply: each compares only with itself."""
    ordered = sorted(increments, key=lambda step: (step.bucket, step.stratum))
    spread = statistics.dispersion([(s.canary, s.control) for s in spreads], plan.frailty_floor)
    steps = _steps(ordered, gravest=False)
    watch = plan.gravest is Gravest.EXCESS
    harm_alpha = plan.alpha * (1 - plan.gravest_share) if watch else plan.alpha
    grave_alpha = plan.alpha * plan.gravest_share
    grave = _steps(ordered, gravest=True) if watch else []
    null = 1 + plan.margin
    return Evidence(
        harm=statistics.rate_ratio_path(steps, 1.0, plan.harm_ratios, harm_alpha, spread),
        harm_needed=1 / harm_alpha,
        gravest=statistics.rate_ratio_path(grave, 1.0, plan.harm_ratios, grave_alpha, spread) if watch else None,
        gravest_needed=1 / grave_alpha,
        safe=statistics.rate_ratio_path(steps, null, safe_ratios(plan.margin), plan.alpha, spread),
        safe_needed=1 / plan.alpha,
        ratio=statistics.rate_ratio_interval(steps, plan.alpha, spread),
        canary_exposure=sum(step.canary_exposure for step in ordered),
        control_exposure=sum(step.control_exposure for step in ordered),
        canary_events=sum(step.canary_events for step in ordered),
        control_events=sum(step.control_events for step in ordered),
        canary_gravest=sum(step.canary_gravest for step in ordered),
        dispersion=spread,
    )


def _steps(ordered: Sequence[Increment], *, gravest: bool) -> list[TwoArmStep]:
    """Turn increments into steps, stratum by stratum; slices are joined until both arms have driven.

    Whether slices are joined depends on exposure alone, never on events, so that each step's split of events between
    the arms stays binomial; and no exposure and no event is dropped, however unevenly windows arrive.
    """
    waiting: dict[Stratum, TwoArmStep] = {}
    steps = []
    for item in ordered:
        held = waiting.pop(item.stratum, TwoArmStep(0.0, 0.0, 0, 0))
        joined = TwoArmStep(
            held.treated_exposure + item.canary_exposure,
            held.control_exposure + item.control_exposure,
            held.treated_events + (item.canary_gravest if gravest else item.canary_events),
            held.control_events + (item.control_gravest if gravest else item.control_events),
        )
        if joined.treated_exposure > 0 and joined.control_exposure > 0:
            steps.append(joined)
        else:
            waiting[item.stratum] = joined
    return steps
