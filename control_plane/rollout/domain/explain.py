"""Why a rollout and a device are where they are, in sentences with numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control_plane.rollout.domain.assign import EVERYONE, score, stage_of
from control_plane.rollout.domain.standing import Standing
from control_plane.rollout.domain.values import ENDS, Phase, Plan, Rollout

UNITS = {"distance_m": "m", "duration_s": "s"}
TESTS = {
    "harm": "that it is worse than control",
    "gravest": "of more events of the gravest kind",
    "history_harm": "that devices do worse than in their own past",
    "safe": "that it is no worse than control",
    "history_safe": "that devices do no worse than in their own past",
}
MEANS = {
    Standing.OFFERED: "told of it",
    Standing.WORKING: "on their way",
    Standing.COMMITTED: "run it",
    Standing.RETRYING: "try again",
    Standing.FAILED: "refused it",
    Standing.REVERTED: "went back by themselves",
    Standing.SILENT: "are silent",
    Standing.RETURNED: "are back",
    Standing.QUARANTINED: "did not come back and are set apart",
}


STOOD = {
    Standing.OFFERED: "had been told of it",
    Standing.WORKING: "were on their way",
    Standing.COMMITTED: "ran it",
    Standing.RETRYING: "were trying again",
    Standing.FAILED: "had refused it",
    Standing.REVERTED: "had gone back by themselves",
    Standing.SILENT: "were silent",
    Standing.RETURNED: "were back",
    Standing.QUARANTINED: "had not come back and were set apart",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a rollout when somebody asks."""

    name: str
    what: str
    rollout: Rollout
    because: str
    figures: Mapping[str, Any]
    standings: Mapping[Standing, int]
    wanted: int
    unit: str
    forecast: Mapping[str, Any]
    plan_override: str
    preempts: Sequence[str]
    preempted_by: str


def explain_rollout(told: Told, now: datetime) -> list[str]:
    """Say how a rollout stands, on what evidence, and what would move it."""
    rollout = told.rollout
    lines = [f"{told.name} brings {told.what}. It is {rollout.phase.replace('_', ' ')}: {told.because}."]
    lines += _started(told, now)
    if rollout.phase in (Phase.ROLLING, Phase.PAUSED, Phase.HELD):
        lines += [*_evidence(told), *_next(told)]
    lines += _asides(told)
    return lines


def _started(told: Told, now: datetime) -> Iterator[str]:
    rollout, standings = told.rollout, told.standings
    if rollout.stage_since is None:
        return
    passed = _span(now - rollout.stage_since)
    counts = ", ".join(f"{n} {MEANS[name]}" for name in Standing if (n := standings.get(name, 0)))
    stage = f"Stage {rollout.stage + 1} of {len(rollout.plan.stages)} ({rollout.current.fraction:.0%} of every stratum)"
    if rollout.phase in ENDS:
        stood = ", ".join(f"{n} {STOOD[name]}" for name in Standing if (n := standings.get(name, 0)))
        stage = f"{rollout.stage + 1} of {len(rollout.plan.stages)}"
        yield f"It came as far as stage {stage}; of its devices, when it ended, {stood or 'none had heard of it'}."
    elif rollout.phase is Phase.HALTING:
        yield f"{rollout.returning:.0%} of the devices that have it are to go back by now; of all, {counts}."
    else:
        yield f"{stage} began {passed} ago and is for {told.wanted} devices: {counts or 'none has checked in since'}."


def _evidence(told: Told) -> Iterator[str]:
    figures, unit = told.figures, UNITS[told.unit]
    for name, value in figures.items():
        needed = figures.get(f"{name}_needed")
        if needed and isinstance(value, int | float):
            test = name.removesuffix("_e")
            what = TESTS.get(test, f"of more {test.removeprefix('watch_').replace('_', ' ')}")
            yield f"Evidence {what}: {value:.3g}; it decides at {needed:g}."
    ratio = figures.get("ratio")
    if ratio is not None:
        high = figures.get("ratio_high")
        bound = f"{high:.2f}" if high is not None else "no bound"
        yield (
            f"The canary's rate is {ratio:.2f} times control's, between {figures['ratio_low']:.2f} and {bound} "
            f"whenever one looks, from {figures['canary_events']} events in {figures['canary_exposure']:.0f} {unit} "
            f"against {figures['control_events']} in {figures['control_exposure']:.0f} {unit}."
        )
    if (figures.get("dispersion") or 1) > 1.05:
        yield f"Devices differ: evidence counts {1 / figures['dispersion']:.0%} of what it would if all were alike."


def _next(told: Told) -> Iterator[str]:
    plan, stage, figures = told.rollout.plan, told.rollout.current, told.figures
    unit, driven = UNITS[told.unit], figures.get("stage_exposure") or 0.0
    last = told.rollout.stage + 1 == len(plan.stages)
    wishes = [f"{plan.settle_share:.0%} of its devices have settled"]
    if stage.fraction < 1 and stage.must_prove:
        wishes.append(f"it is shown that the rate is under {1 + plan.margin:g} times control's")
    if stage.fraction < 1 and stage.min_exposure > driven:
        wishes.append(f"{stage.min_exposure - driven:.0f} {unit} more are driven without harm")
    yield f"It {'is done' if last else 'widens'} once " + " and ".join(wishes) + "."
    if told.rollout.stage_since is not None:
        until = told.rollout.stage_since + timedelta(seconds=stage.deadline_s)
        yield (
            f"A person is asked at {until:%Y-%m-%d %H:%M} UTC, or once {stage.max_exposure:,.0f} {unit} have not "
            f"decided it ({driven:.0f} so far)."
        )
    needs = [n for n in told.forecast.get("needs", []) if n["stage"] == told.rollout.stage and n["ratio"] == 2.0]
    for need in needs:
        if need["exposure_needed"]:
            yield (
                f"By this fleet's own rates the stage needs about {need['exposure_needed']:.0f} {unit} of canary "
                f"driving, {need['days_needed']:.2g} days, to decide: to halt a doubling, or show that it is safe."
            )


def _asides(told: Told) -> Iterator[str]:
    if told.plan_override:
        yield f"Its plan cannot decide; it was let go all the same: {told.plan_override}."
    if told.preempts:
        yield f"It took the devices of {', '.join(told.preempts)}."
    if told.preempted_by:
        yield f"Its devices go to the newer rollout {told.preempted_by}."


def _span(passed: timedelta) -> str:
    seconds = passed.total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@dataclass(frozen=True, slots=True)
class Reached:
    """A rollout as one device meets it: thresholds of the device's stratum, and how the device stands in it."""

    rollout_id: str
    what: str
    phase: Phase
    stage: int
    plan: Plan
    limits: Sequence[int]
    standing: Standing | None
    reason: str | None
    detail: str
    is_ordered: bool


def explain_place(device_id: str, reached: Reached) -> list[str]:
    """Say why a rollout reaches a device or not, and what the device waits for."""
    place = score(reached.rollout_id, device_id)
    stage = stage_of(place, reached.limits)
    now = reached.limits[reached.stage] if reached.limits else 0
    where = (
        f"its place by hash is {place / EVERYONE:.3f} of 1, stage {reached.stage + 1} reaches to {now / EVERYONE:.3f}"
    )
    said = f"{reached.rollout_id} ({reached.what}) is {reached.phase.replace('_', ' ')}"
    if not reached.limits:
        return [f"{said}; it has fixed nothing for this device's site and class yet."]
    if place >= now:
        when = "never: it is control to the end" if stage is None else f"in stage {stage + 1}"
        return [f"{said} and does not reach this device: {where}. It will be reached {when}."]
    lines = [f"{said} and reaches this device: {where}."]
    if not reached.is_ordered and reached.phase in (Phase.ROLLING, Phase.PAUSED, Phase.HELD):
        lines.append("Something newer, its counter or its quarantine keeps it from being ordered.")
    if reached.standing is not None:
        waits = ": ".join(part for part in (reached.reason or "", reached.detail) if part)
        lines.append(f"It is {reached.standing}" + (f", waiting for or because of {waits}." if waits else "."))
    return lines
