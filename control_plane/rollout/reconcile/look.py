"""See everything a decision looks at; each look costs the number of strata, never of devices."""

from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.fleet import service as fleet
from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.db import Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, ReleaseItem
from control_plane.review.domain import ReviewState
from control_plane.rollout import store
from control_plane.rollout.domain import (
    HOLDING,
    SMALL_STRATUM,
    Control,
    Phase,
    Plan,
    Seen,
    Standing,
    Wishes,
    counted_in,
    deployments_of,
    due_back,
    histories_of,
    holding_of,
    score,
    spreads_of,
    thresholds,
)
from control_plane.rollout.domain.spread import Arms
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.reconcile.field import SUMS_AGE, FieldView, Reading, kinds_of, slice_s
from control_plane.rollout.reconcile.record import plan_of
from control_plane.telemetry import service as telemetry

COUNTED_MOST = 5000
"""Devices that are looked at one by one on their way back; beyond that, shares are good enough."""
SWEPT_MOST = 2000
LEAST_SILENCE_S = 60.0


def now() -> datetime:
    return clock.now()


async def see(context: Context, session: Session, row: RolloutRow, view: FieldView, at: datetime) -> Seen:
    release = await registry.get_release(session, row.release)
    seen = Seen(
        at,
        approvals=len(release.approved_by),
        waits_for=await _waits_for(context, session, row, release),
        wishes=Wishes(**row.wishes),
        preempted_by=row.preempted_by,
    )
    if release.review_state == ReviewState.REJECTED:
        seen = replace(seen, wishes=replace(seen.wishes, halt=True))
    if row.started_at is None:
        return seen
    plan, model = plan_of(row), await registry.get_model(session, row.model)
    await _hear_silence(context, session, row, plan, at)
    seen = await _with_devices(session, row, plan, seen)
    return await _with_field(context, session, row, model, view, seen)


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


async def has_way_back(session: Session, row: RolloutRow) -> bool:
    """Say whether devices have anything to go back to; a class's first release has nothing before it."""
    classes = {baseline.device_class for baseline in await store.baselines(session)}
    return row.champion is not None or bool(classes & set(row.device_classes))


async def _with_devices(session: Session, row: RolloutRow, plan: Plan, seen: Seen) -> Seen:
    counts = {Standing(name): n for name, n in (await store.tally(session, row.id)).items()}
    wanted = sum(stages[row.stage] for stages in row.counts.values())
    seen = replace(seen, deployments=deployments_of(counts, wanted))
    if not await has_way_back(session, row):
        return replace(seen, has_way_back=False)
    seen = replace(seen, holding=holding_of(counts))
    if row.phase != Phase.HALTING or not seen.holding:
        return seen
    share = plan.returns[min(row.wave, len(plan.returns) - 1)]
    return replace(seen, due_back=await _due(session, row, counts, seen.holding, share))


async def _due(session: Session, row: RolloutRow, counts: dict[Standing, int], holding: int, share: float) -> int:
    """Count devices whose turn to go back it is and that have not; of very many, by their share."""
    if holding <= COUNTED_MOST:
        return len(due_back(row.id, await store.in_standing(session, row.id, HOLDING), share))
    had = holding + counts.get(Standing.RETURNED, 0)
    return max(0, holding - int((1 - share) * had))


async def fix_strata(session: Session, row: RolloutRow) -> None:
    """Fix every stage's threshold and count in strata that are new or have another size; others stay as they are.

    Late joiners fall where their hash puts them, and push nobody out.
    """
    if row.started_at is None and row.phase != Phase.WAITING_APPROVAL:
        return
    sizes = {key(s.site, s.device_class): s for s in await fleet.strata(session, row.device_classes, row.sites)}
    changed = {name: s for name, s in sizes.items() if row.sizes.get(name) != s.devices}
    if not changed:
        return
    fractions = [stage["fraction"] for stage in row.plan["stages"]]
    small = [s for s in changed.values() if s.devices <= SMALL_STRATUM]
    members: dict[str, list[str]] = {name: [] for name in changed}
    for member in await fleet.members_of(session, [(s.site, s.device_class) for s in small]):
        members[key(member.site, member.device_class)].append(member.id)
    limits, counts = {}, {}
    for name, stratum in changed.items():
        known = members[name] if stratum.devices <= SMALL_STRATUM else None
        limits[name] = _limits(row, name, known, fractions)
        counts[name] = _counts(row.id, known, stratum.devices, limits[name], fractions)
    row.limits, row.counts = row.limits | limits, row.counts | counts
    row.sizes = row.sizes | {name: stratum.devices for name, stratum in changed.items()}


def _limits(row: RolloutRow, name: str, known: list[str] | None, fractions: list[float]) -> list[int]:
    large = known is None
    return list(thresholds(row.id, known or (), fractions, row.limits.get(name, ()), large=large))


def _counts(
    rollout_id: str, known: list[str] | None, devices: int, limits: list[int], fractions: list[float]
) -> list[int]:
    if known is None:
        return [counted_in(devices, fraction) for fraction in fractions]
    scores = [score(rollout_id, device) for device in known]
    return [sum(place < limit for place in scores) for limit in limits]


def key(site: str, device_class: str) -> str:
    return f"{site}|{device_class}"


async def _hear_silence(context: Context, session: Session, row: RolloutRow, plan: Plan, at: datetime) -> None:
    """Mark devices that have said nothing for too long on their way, and those that are heard of again.

    A bounded number at each tick, by turns: those that were looked at longest ago.
    """
    allowed_s = plan.silence_s or max(LEAST_SILENCE_S, 10 * context.settings.check_in_s)
    waiting = await store.next_waiting(session, row.id, SWEPT_MOST)
    if not waiting:
        return
    unheard = await fleet.unheard(session, [each["device_id"] for each in waiting], at - timedelta(seconds=allowed_s))
    silent = [w["device_id"] for w in waiting if w["device_id"] in unheard and w["standing"] != Standing.SILENT]
    heard = [w["device_id"] for w in waiting if w["device_id"] not in unheard and w["standing"] == Standing.SILENT]
    await store.stand(session, row.id, silent, Standing.SILENT)
    await store.stand(session, row.id, heard, Standing.WORKING)


async def _with_field(
    context: Context, session: Session, row: RolloutRow, model: ModelItem, view: FieldView, seen: Seen
) -> Seen:
    plan = plan_of(row)
    reading = await reading_of(context, session, row, model, plan)
    lines, mark = await telemetry.cells(session, row.device_classes, row.sites, reading.begun_at, view.mark)
    view.take(reading, lines, mark)
    if view.sums_at is None or seen.now - view.sums_at >= SUMS_AGE:
        contents = [reading.canary, *reading.control]
        view.sums = await telemetry.device_sums(session, row.device_classes, row.sites, contents)
        view.sums_at = seen.now
    arms = Arms(reading.canary, reading.control, reading.unit, reading.kinds[0])
    histories = histories_of(arms, view.sums) if plan.control is not Control.CONCURRENT else ()
    spreads = spreads_of(arms, view.sums, view.driven())
    return replace(seen, increments=view.ledger(), spreads=spreads, histories=histories)


async def reading_of(context: Context, session: Session, row: RolloutRow, model: ModelItem, plan: Plan) -> Reading:
    """Say how a rollout reads the field: control is whatever else of this model drives in the same strata."""
    contents = await registry.contents_of(session, row.model)
    return Reading(
        row.content_digest,
        contents - {row.content_digest},
        model.exposure,
        kinds_of(model, plan),
        row.started_at or clock.now(),
        slice_s(plan, context.settings.evidence_cell_s),
    )
