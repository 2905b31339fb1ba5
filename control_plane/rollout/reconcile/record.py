"""A rollout's state in its row, and decisions kept with all that they were made from."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.kit.db import Session
from control_plane.rollout import store
from control_plane.rollout.domain import ENDS, Decision, Plan, Rollout, Seen, read_plan
from control_plane.rollout.domain.replay import evidence_of, rollout_from
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.reconcile.field import FieldView
from control_plane.rollout.service import STATE

SHORTEST_S, LONGEST_S, PARTS = 1.0, 300.0, 1000
"""Between decisions in which nothing but figures changed lies a thousandth of the stage's deadline, within bounds."""


@dataclass(frozen=True, slots=True)
class Made:
    """One decision with what it was made from."""

    before: Rollout
    seen: Seen
    decision: Decision
    view: FieldView
    at: datetime


def plan_of(row: RolloutRow) -> Plan:
    return read_plan(row.plan)


def rollout_of(row: RolloutRow) -> Rollout:
    return rollout_from(row.plan, {name: getattr(row, name) for name in STATE})


def write(row: RolloutRow, decision: Decision, at: datetime) -> None:
    rollout = decision.rollout
    row.phase, row.stage, row.stage_since = rollout.phase, rollout.stage, rollout.stage_since
    row.exposure_before, row.because = rollout.exposure_before, decision.because
    row.wave, row.wave_since = rollout.wave, rollout.wave_since
    if row.started_at is None:
        row.started_at = rollout.stage_since
    if rollout.phase in ENDS:
        row.finished_at, row.offering = at, False


async def keep(session: Session, row: RolloutRow, made: Made) -> None:
    """Keep a decision that changed something, and one now and then in which only figures did."""
    if not await _is_due(session, row, made):
        return
    cells = made.view.slot_rows(made.view.changed)
    evidence = evidence_of(made.before, made.seen, made.decision, cells)
    await store.insert_decision(session, row, made.at, dict(made.decision.figures), evidence)
    made.view.changed.clear()


async def _is_due(session: Session, row: RolloutRow, made: Made) -> bool:
    before, after = made.before, made.decision.rollout
    if (before.phase, before.stage, before.wave) != (after.phase, after.stage, after.wave):
        return True
    last = await store.last_decision(session, row.id)
    if last is None:
        return True
    if last.because == made.decision.because and last.figures == dict(made.decision.figures):
        return False
    gap_s = min(max(before.current.deadline_s / PARTS, SHORTEST_S), LONGEST_S)
    return bool(made.at - last.at >= timedelta(seconds=gap_s))
