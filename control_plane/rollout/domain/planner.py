"""How much exposure and time a plan needs, said before it starts; a stage that cannot decide is refused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.kit.statistics import events_needed
from control_plane.rollout.domain.assign import SMALL_STRATUM, canaries_in
from control_plane.rollout.domain.evidence import safe_ratios
from control_plane.rollout.domain.values import Gravest, Plan, Stratum
from control_plane.rollout.domain.words import amount_of, time_of

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class FleetStratum:
    """What one stratum of the selection usually does."""

    stratum: Stratum
    devices: int
    exposure_per_device_day: float
    events_per_exposure: float


@dataclass(frozen=True, slots=True)
class StageNeed:
    """`exposure_needed` and `days_needed` are for both answers, and infinite where no amount decides.

    `to_see` is canary exposure after which more events, as asked about, have halted it; `to_prove` that after which an
    equal release is shown to be no worse, whatever effect is asked about, and None where it need not be.
    """

    stage: int
    canary_devices: int
    control_devices: int
    exposure_needed: float
    days_needed: float
    can_decide: bool
    because: str
    to_see: float
    to_prove: float | None
    exposure_per_day: float

    def days(self, exposure: float) -> float:
        """Return how long the stage's canaries take for an exposure."""
        return _days(exposure, self.exposure_per_day)


@dataclass(frozen=True, slots=True)
class Forecast:
    stages: tuple[StageNeed, ...]
    can_decide: bool
    because: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Per day, at a stage's fraction."""

    canaries: int
    controls: int
    exposure: float
    events: float
    share: float


def plan_exposure(
    plan: Plan,
    fleet: Sequence[FleetStratum],
    *,
    detect_ratio: float = 2.0,
    power: float = 0.8,
    frailty: float = 0.0,
    unit: str = "distance_m",
) -> Forecast:
    """Forecast every stage; `unit` is what exposure is counted in, for the sentences.

    A stage decides when, with probability `power`, an equal release is shown to be within the margin and one with
    `detect_ratio` times the events is halted, before the stage's cap and deadline. `frailty` is the variance between
    devices (0: all alike).
    """
    needs: list[StageNeed] = []
    carried, proved = 0.0, False
    for number, stage in enumerate(plan.stages):
        reach = _reach(fleet, stage.fraction)
        to_prove = stage.must_prove and stage.fraction < 1 and not proved
        wanted = _wanted(plan, reach, detect_ratio, power, frailty).after(carried)
        needs.append(_need(plan, number, unit, reach, wanted, to_prove=to_prove))
        proved = proved or to_prove
        carried += stage.min_exposure
    refused = [need for need in needs if not need.can_decide]
    because = "; ".join(need.because for need in refused) or "every stage can decide within its cap and deadline"
    return Forecast(tuple(needs), not refused, because)


def _reach(fleet: Sequence[FleetStratum], fraction: float) -> Reach:
    canaries = controls = 0
    exposure = events = control_events = 0.0
    for part in fleet:
        chosen = (
            canaries_in(part.devices, fraction) if part.devices <= SMALL_STRATUM else round(fraction * part.devices)
        )
        rest = part.devices - chosen
        canaries, controls = canaries + chosen, controls + rest
        exposure += chosen * part.exposure_per_device_day
        if chosen and rest:
            events += chosen * part.exposure_per_device_day * part.events_per_exposure
            control_events += rest * part.exposure_per_device_day * part.events_per_exposure
    total = events + control_events
    return Reach(canaries, controls, exposure, events, events / total if total > 0 else 0.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Canary exposure for each of the two questions, and for both."""

    harm: float
    safe: float
    both: float

    def after(self, driven: float) -> "Wanted":
        return Wanted(max(self.harm - driven, 0.0), max(self.safe - driven, 0.0), max(self.both - driven, 0.0))


def _wanted(plan: Plan, reach: Reach, detect_ratio: float, power: float, frailty: float) -> Wanted:
    """Say after how much canary exposure the questions are answered with the wanted power."""
    if not 0 < reach.share < 1:
        return Wanted(math.inf, math.inf, math.inf)
    alpha = plan.alpha * (1 - plan.gravest_share) if plan.gravest is Gravest.EXCESS else plan.alpha
    null = 1 + plan.margin
    safe = events_needed(null, 1.0, safe_ratios(plan.margin), share=reach.share, alpha=plan.alpha, power=power)
    harm = events_needed(1.0, detect_ratio, plan.harm_ratios, share=reach.share, alpha=alpha, power=power)
    return Wanted(*(_driven(events, reach, frailty) for events in (harm, safe, max(safe, harm))))


def _driven(events: float, reach: Reach, frailty: float) -> float:
    """Return the canary exposure in which as many events happen, and as count for more where devices differ."""
    room = 1 - frailty * events / reach.canaries  # events/canaries more per device inflate the variance by as much
    return events / room * reach.exposure / reach.events if room > 0 else math.inf


def _days(exposure: float, per_day: float) -> float:
    return exposure / per_day if per_day > 0 else (math.inf if exposure > 0 else 0.0)


def _need(plan: Plan, number: int, unit: str, reach: Reach, wanted: Wanted, *, to_prove: bool) -> StageNeed:
    stage = plan.stages[number]
    exposure = max(stage.min_exposure if stage.fraction < 1 else 0.0, wanted.both if to_prove else 0.0)
    days = _days(exposure, reach.exposure)
    problem = _problem(reach, exposure, days, unit, cap=stage.max_exposure, deadline_days=stage.deadline_s / DAY_S)
    said = f"stage {number + 1} ({stage.fraction:.0%}, {reach.canaries} canaries, {reach.controls} controls)"
    because = f"{said} {problem}" if problem else f"{said} needs {amount_of(exposure, unit)}, about {time_of(days)}"
    return StageNeed(
        number,
        reach.canaries,
        reach.controls,
        exposure,
        days,
        not problem,
        because,
        wanted.harm,
        wanted.safe if to_prove else None,
        reach.exposure,
    )


def _problem(reach: Reach, exposure: float, days: float, unit: str, *, cap: float, deadline_days: float) -> str | None:
    if not reach.canaries:
        return "reaches no device"
    if math.isinf(exposure):
        return "cannot decide: too few events, no concurrent control, or too few devices that differ too much"
    if exposure > cap:
        most = amount_of(cap, unit)
        return f"needs {amount_of(exposure, unit)} of canaries but may have at most {most}; raise its cap or its margin"
    if days > deadline_days:
        return f"needs about {time_of(days)} but has {time_of(deadline_days)}; widen it or move its deadline"
    return None
