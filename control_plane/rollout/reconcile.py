"""Look at every unfinished rollout, decide, and make it so: row, decision, audit and actions in one transaction."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_plane.audit import service as audit
from control_plane.evaluation.domain import Verdict
from control_plane.fleet import service as fleet
from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.db import Session, execute
from control_plane.kit.statistics import unit_moments
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, ReleaseItem
from control_plane.review import service as review
from control_plane.review.domain import ReviewState
from control_plane.rollout import store
from control_plane.rollout.domain import (
    ENDS,
    ArmSpread,
    AskPerson,
    Complete,
    Decision,
    Deployments,
    Gravest,
    Increment,
    Offer,
    Phase,
    Plan,
    Rollout,
    Seen,
    Stage,
    Stratum,
    Wishes,
    Withdraw,
    decide,
    score,
    thresholds,
)
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.service import ACTOR
from control_plane.telemetry import service as telemetry

NO_WAY_BACK = "withdrawn; nothing came before it, so devices that have it keep it until the next release"


async def tick(context: Context) -> int:
    """Move every unfinished rollout one step; several workers may do so at once."""
    async with context.database.transaction() as session:
        waiting = await store.unfinished(session)
    moved = 0
    for rollout_id in waiting:
        async with context.database.transaction() as session:
            row = await store.claim(session, rollout_id)
            if row is not None and Phase(row.phase) not in ENDS:
                moved += await _step(context, session, row)
    return moved


async def _step(context: Context, session: Session, row: RolloutRow) -> bool:
    model = await registry.get_model(session, row.model)
    seen = await _see(context, session, row, model)
    before = (row.phase, row.stage, row.because)
    decision = decide(_rollout(row), seen)
    if decision.rollout.phase is Phase.HALTED and not await _way_back(session, row):
        decision = replace(decision, because=NO_WAY_BACK)
    _write(row, decision)
    for action in decision.actions:
        await _act(session, row, action)
    changed = before != (row.phase, row.stage, row.because)
    if changed or decision.figures != row.figures:
        row.figures = dict(decision.figures)
        await store.insert_decision(session, row, seen.now)
    if before[:2] != (row.phase, row.stage):
        await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")
        await audit.record(session, ACTOR, f"rollout.{row.phase}", row.id, decision.because, stage=row.stage)
    return changed


def _rollout(row: RolloutRow) -> Rollout:
    plain = row.plan | {
        "stages": tuple(Stage(**stage) for stage in row.plan["stages"]),
        "harm_ratios": tuple(row.plan["harm_ratios"]),
        "gravest": Gravest(row.plan["gravest"]),
    }
    return Rollout(
        Plan(**plain),
        Phase(row.phase),
        row.stage,
        row.stage_since,
        row.exposure_before,
        Verdict(row.gate_verdict) if row.gate_verdict else None,
        row.override_reason,
    )


def _write(row: RolloutRow, decision: Decision) -> None:
    rollout = decision.rollout
    row.phase, row.stage, row.stage_since = rollout.phase, rollout.stage, rollout.stage_since
    row.exposure_before, row.because = rollout.exposure_before, decision.because
    if row.started_at is None:
        row.started_at = rollout.stage_since
    if rollout.phase in ENDS:
        row.finished_at, row.offering = clock.now(), False


async def _see(context: Context, session: Session, row: RolloutRow, model: ModelItem) -> Seen:
    release = await registry.get_release(session, row.release)
    seen = Seen(
        clock.now(),
        approvals=len(release.approved_by),
        waits_for=await _waits_for(context, session, row, release),
        wishes=Wishes(**row.wishes),
    )
    if release.review_state == ReviewState.REJECTED:
        seen = replace(seen, wishes=replace(seen.wishes, halt=True))
    if row.started_at is None:
        return seen
    silent_s = max(60.0, 10 * context.settings.check_in_s)
    tally = await store.tally(session, row.id, row.content_digest, silent_s)
    counts = {name: int(tally[name]) for name in ("offered", "committed", "failed", "reverted", "silent")}
    deployments = Deployments(wanted=await _wanted(session, row), **counts)
    holding = int(tally["holding"]) if await _way_back(session, row) else 0
    return replace(
        seen,
        deployments=deployments,
        holding=holding,
        increments=await _increments(session, row, model),
        spreads=await _spreads(session, row, model),
    )


async def _waits_for(context: Context, session: Session, row: RolloutRow, release: ReleaseItem) -> str:
    """Say what is still unsigned of the release and of its way back."""
    if row.started_at is not None or not context.keyring.ready:
        return ""  # without keys nothing is published, and no device would take anything
    if release.published_revision is None:
        return release.waits_for
    if row.restore_release is None:
        return ""
    back = await registry.get_release(session, row.restore_release)
    return "" if back.published_revision is not None else f"its way back: {back.waits_for}"


async def _way_back(session: Session, row: RolloutRow) -> bool:
    """Say whether devices have anything to go back to; a class's first release has nothing before it."""
    classes = {baseline.device_class for baseline in await store.baselines(session)}
    return row.champion is not None or bool(classes & set(row.device_classes))


async def _wanted(session: Session, row: RolloutRow) -> int:
    members = await fleet.members(session, row.device_classes, row.sites)
    limits = {key: values[row.stage] for key, values in row.limits.items()}
    return sum(score(row.id, m.id) < limits.get(_key(m.site, m.device_class), 0) for m in members)


def _kinds(model: ModelItem) -> tuple[list[str], list[str]]:
    incidents = [kind for kind, rule in model.events.items() if rule.incident]
    gravest = [kind for kind, rule in model.events.items() if rule.severity == "gravest"]
    return incidents, gravest


async def _increments(session: Session, row: RolloutRow, model: ModelItem) -> tuple[Increment, ...]:
    incidents, gravest = _kinds(model)
    if row.started_at is None:
        return ()
    found = await telemetry.increments(session, row.content_digest, incidents, row.started_at, model.exposure)
    grave = {
        (line["bucket"], line["site"], line["device_class"]): (line["canary_events"], line["control_events"])
        for line in await telemetry.increments(session, row.content_digest, gravest, row.started_at, model.exposure)
    }
    return tuple(
        Increment(
            int(line["bucket"]),
            Stratum(line["site"], line["device_class"]),
            float(line["canary_exposure"]),
            float(line["control_exposure"]),
            int(line["canary_events"]),
            int(line["control_events"]),
            *(int(n) for n in grave.get((line["bucket"], line["site"], line["device_class"]), (0, 0))),
        )
        for line in found
        if line["device_class"] in row.device_classes
    )


async def _spreads(session: Session, row: RolloutRow, model: ModelItem) -> tuple[ArmSpread, ...]:
    """Sum up how much devices of each arm differ, stratum by stratum."""
    incidents, _ = _kinds(model)
    arms: Mapping[Stratum, Any] = defaultdict(lambda: {True: ([], []), False: ([], [])})
    for line in await telemetry.by_device(session, row.content_digest, incidents, row.started_at, model.exposure):
        events, exposures = arms[Stratum(line["site"], line["device_class"])][bool(line["canary"])]
        events.append(float(line["events"]))
        exposures.append(float(line["exposure"]))
    return tuple(
        ArmSpread(stratum, unit_moments(*arm[True]), unit_moments(*arm[False])) for stratum, arm in sorted(arms.items())
    )


def _key(site: str, device_class: str) -> str:
    return f"{site}|{device_class}"


async def _act(session: Session, row: RolloutRow, action: object) -> None:
    match action:
        case Offer():
            row.limits, row.offering = await _limits(session, row), True
            await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")
        case Withdraw():
            row.offering = False
        case Complete():
            await _complete(session, row)
        case AskPerson(question=question):
            await review.ask(session, ACTOR, "rollout_held", row.id, question, dict(row.figures))
        case _:
            raise AssertionError(action)


async def _limits(session: Session, row: RolloutRow) -> dict[str, Any]:
    """Fix every stage's threshold in every stratum; late joiners fall where their hash puts them."""
    strata: dict[str, list[str]] = defaultdict(list)
    for member in await fleet.members(session, row.device_classes, row.sites):
        strata[_key(member.site, member.device_class)].append(member.id)
    fractions = [stage["fraction"] for stage in row.plan["stages"]]
    return {
        key: list(thresholds(row.id, devices, fractions, row.limits.get(key, ()))) for key, devices in strata.items()
    } | {k: v for k, v in row.limits.items() if k not in strata}


async def _complete(session: Session, row: RolloutRow) -> None:
    row.offering = False
    values = {
        "release": row.release,
        "content_digest": row.content_digest,
        "counter": row.counter,
        "since": clock.now(),
    }
    for device_class in row.device_classes:
        await store.put_baseline(session, device_class, values)
