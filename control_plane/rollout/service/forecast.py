"""What a plan needs on this fleet, from the fleet's own rates and kilometres, before it is started."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from control_plane.fleet import service as fleet
from control_plane.kit import clock
from control_plane.kit.db import Row, Session
from control_plane.kit.errors import Invalid
from control_plane.kit.statistics import frailty
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem
from control_plane.rollout import store
from control_plane.rollout.domain import (
    Arms,
    FleetStratum,
    Forecast,
    Plan,
    StageNeed,
    Stratum,
    plan_exposure,
    spreads_of,
)
from control_plane.rollout.schemas import AmountItem, ForecastItem, RolloutPlan, StageNeedItem
from control_plane.rollout.service.doubts import doubts
from control_plane.telemetry import service as telemetry

RATIOS = (1.5, 2.0, 3.0)
MUST_SEE = 2.0
"""A stage that would not see a doubling cannot decide."""
LOOK_BACK = timedelta(days=7)
LEAST_DAYS = 1 / 1440
DAY = timedelta(days=1)
UNKNOWN = "this fleet has not driven with this model yet, so nothing can be said of what a stage will show"


async def plan_rollout(session: Session, body: RolloutPlan) -> ForecastItem:
    """Say what a plan needs and what speaks against its release, without making anything.

    Raises:
        Invalid: the plan is none, or the release is another model's.
        NotFound: there is no such model or release.
    """
    try:
        plan = body.plan.to_plan(0)
    except ValueError as error:
        raise Invalid(str(error), code="bad_plan") from error
    found = await forecast(session, body.model, body.device_classes, body.sites, plan, body.power)
    if body.release is None:
        return found
    release = await registry.get_release(session, body.release)
    if release.model != body.model:
        raise Invalid(f"that release is of {release.model}, not of {body.model}", code="bad_plan")
    return found.model_copy(update={"doubts": await doubts(session, release, body.device_classes, body.sites)})


async def forecast(
    session: Session,
    model_name: str,
    device_classes: Sequence[str],
    sites: Sequence[str] | None,
    plan: Plan,
    power: float = 0.8,
) -> ForecastItem:
    """Forecast every stage from the last week's driving of what these devices run now."""
    model = await registry.get_model(session, model_name)
    arms = await _control(session, model, device_classes)
    since = clock.now() - LOOK_BACK
    driven = await telemetry.pace(session, device_classes, sites, list(arms.control), list(arms.kinds), since)
    sizes = await fleet.strata(session, device_classes, sites)
    known = [_stratum(line, {(s.site, s.device_class): s.devices for s in sizes}, model.exposure) for line in driven]
    strata = [stratum for stratum in known if stratum.devices]
    if not any(s.exposure_per_device_day * s.events_per_exposure > 0 for s in strata):
        return _unknown(model, strata)
    sums = await telemetry.device_sums(session, device_classes, sites, list(arms.control))
    everything = {s.stratum: (math.inf, math.inf) for s in strata}
    varies = frailty([spread.control for spread in spreads_of(arms, sums, everything)])
    found = {
        r: plan_exposure(plan, strata, detect_ratio=r, power=power, frailty=varies, unit=model.exposure) for r in RATIOS
    }
    return _item(plan, model, strata, varies, found)


async def _control(session: Session, model: ModelItem, device_classes: Sequence[str]) -> Arms:
    """Say what these devices run now: the baseline's content, or else any version of the model."""
    baseline = {b.content_digest for b in await store.baselines(session) if b.device_class in device_classes}
    contents = await registry.contents_of(session, model.name)
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    return Arms("", frozenset(baseline & contents or contents), model.exposure, frozenset(kinds))


def _stratum(line: Row, devices: dict[tuple[str, str], int], unit: str) -> FleetStratum:
    exposure = float(line["distance_m"] if unit == "distance_m" else line["duration_s"])
    number = devices.get((line["site"], line["device_class"]), 0)
    days = max(_days(line["begun_at"]), LEAST_DAYS)
    stratum = Stratum(line["site"], line["device_class"])
    rate = line["events"] / exposure if exposure > 0 else 0.0
    return FleetStratum(stratum, number, exposure / days / max(number, 1), rate)


def _days(since: datetime) -> float:
    return (clock.now() - since) / DAY


def _unknown(model: ModelItem, strata: Sequence[FleetStratum]) -> ForecastItem:
    per_day = sum(s.devices * s.exposure_per_device_day for s in strata)
    return ForecastItem(
        known=False,
        can_decide=True,
        because=UNKNOWN,
        unit=model.exposure,
        exposure_per_day=per_day,
        events_per_exposure=None,
        frailty=0.0,
        needs=[],
    )


def _item(
    plan: Plan, model: ModelItem, strata: Sequence[FleetStratum], varies: float, found: dict[float, Forecast]
) -> ForecastItem:
    per_day = sum(s.devices * s.exposure_per_device_day for s in strata)
    events = sum(s.devices * s.exposure_per_device_day * s.events_per_exposure for s in strata)
    decides = found[MUST_SEE]
    return ForecastItem(
        known=True,
        can_decide=decides.can_decide,
        because=decides.because,
        unit=model.exposure,
        exposure_per_day=per_day,
        events_per_exposure=events / per_day if per_day else None,
        frailty=varies,
        needs=[
            StageNeedItem(
                stage=need.stage,
                fraction=plan.stages[need.stage].fraction,
                canary_devices=need.canary_devices,
                control_devices=need.control_devices,
                ratio=ratio,
                exposure_needed=_finite(need.exposure_needed),
                days_needed=_finite(need.days_needed),
                can_decide=need.can_decide,
                because=need.because,
                to_see=_amount(plan, need, need.to_see),
                to_prove=None if need.to_prove is None else _amount(plan, need, need.to_prove),
            )
            for ratio, each in found.items()
            for need in each.stages
        ],
    )


def _amount(plan: Plan, need: StageNeed, exposure: float) -> AmountItem:
    stage, days = plan.stages[need.stage], need.days(exposure)
    in_time = exposure <= stage.max_exposure and days * DAY.total_seconds() <= stage.deadline_s
    return AmountItem(exposure=_finite(exposure), days=_finite(days), in_time=in_time)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
