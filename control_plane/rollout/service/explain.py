"""Answer in words: why a rollout stands where it does, why a device runs what it runs, and past decisions once more."""

import asyncio
from collections.abc import Sequence

from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.fleet.schemas import DeviceItem
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.errors import NotFound
from control_plane.registry import service as registry
from control_plane.rollout import store
from control_plane.rollout.domain import (
    Order,
    Phase,
    Reached,
    Replayed,
    Standing,
    Told,
    explain_place,
    explain_rollout,
    read_plan,
    replay,
    rollout_from,
)
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.schemas import Explanation, ReplayedDecision, RolloutReplay, TallyItem
from control_plane.rollout.service.board import Board

STATE = (
    "phase",
    "stage",
    "stage_since",
    "exposure_before",
    "gate_verdict",
    "override_reason",
    "wave",
    "wave_since",
)
"""Columns of a rollout's row that are the state a decision is made from."""


async def explain(session: Session, rollout_id: str) -> Explanation:
    """Say how a rollout stands, on what evidence, and what would move it."""
    row = await _row(session, rollout_id)
    model = await registry.get_model(session, row.model)
    standings = {Standing(name): n for name, n in (await store.tally(session, row.id)).items()}
    told = Told(
        row.id,
        await _what(session, row),
        rollout_from(row.plan, {name: getattr(row, name) for name in STATE}),
        row.because,
        row.figures,
        standings,
        sum(stages[row.stage] for stages in row.counts.values()),
        model.exposure,
        row.forecast,
        row.plan_override,
        row.preempts,
        row.preempted_by,
    )
    return Explanation(subject=rollout_id, lines=explain_rollout(told, clock.now()))


async def _what(session: Session, row: RolloutRow) -> str:
    version = await registry.get_version(session, row.content_digest)
    return f"{row.model} version {version.version} (counter {row.counter}) to {', '.join(row.device_classes)}"


async def explain_device(session: Session, board: Board, device_id: str) -> Explanation:
    """Say why a device runs what it runs, and what it waits for."""
    device = await fleet.get_device(session, device_id)
    who = Identity(device.id, device.device_class, device.site, device.state, device.key_sha256)
    order = board.order(who, device.counter_floor, device.active_content)
    lines = [await _runs(session, device)]
    if order is None:
        lines.append(_nothing(board, who, device.counter_floor))
    else:
        source = await _source(session, board, who, order)
        wanted = order.release.content_digest
        same = wanted == device.active_content
        runs = "it runs what it is to run" if same else f"it is to run {await _version(session, wanted)}"
        lines.append(f"It is ordered by {source}: {runs}.")
    if device.id in board.apart:
        lines.append("It did not come back from a rollout and is set apart: no rollout reaches it until it has.")
    for row in await store.reaching(session, device.device_class, device.site):
        lines += await _reached(session, row, device, order.rollout_id if order else None)
    return Explanation(subject=device_id, lines=lines)


async def _source(session: Session, board: Board, who: Identity, order: Order) -> str:
    """Say by what a device is ordered; a release with old content may be the way back from a rollout."""
    if order.rollout_id:
        return f"rollout {order.rollout_id}"
    counter, own = order.release.counter, board.own_counter(who)
    left = await store.taken_back(session, order.release.digest)
    if left is None:
        return f"the fleet's own release (counter {counter})"
    again = "" if own in (None, counter) else f", with the content of the fleet's own release (counter {own})"
    return f"the way back from rollout {left} (counter {counter}){again}"


def _nothing(board: Board, who: Identity, floor: int) -> str:
    highest = board.highest_counter(who)
    if highest is None:
        return "It is ordered nothing: its class has no release yet."
    return (
        f"It is ordered nothing: it has run counter {floor} and takes none below, and the fleet's own release has "
        f"{highest}. Release the same content again, and it will take that."
    )


async def _runs(session: Session, device: DeviceItem) -> str:
    seen = f"{device.last_seen_at:%Y-%m-%d %H:%M:%S} UTC" if device.last_seen_at else "never"
    running = await _version(session, device.active_content) if device.active_content else "nothing"
    who = f"{device.serial} ({device.device_class} at {device.site}, {device.state})"
    return f"{who} runs {running}; last heard of: {seen}."


async def _version(session: Session, content: str) -> str:
    try:
        version = await registry.get_version(session, content)
    except NotFound:
        return f"content {content[:12]}, which is none of ours"
    return f"{version.model} version {version.version}"


async def _reached(session: Session, row: RolloutRow, device: DeviceItem, ordered: str | None) -> Sequence[str]:
    deployment = await store.find_deployment(session, row.id, device.id)
    reached = Reached(
        row.id,
        await _what(session, row),
        Phase(row.phase),
        row.stage,
        read_plan(row.plan),
        row.limits.get(f"{device.site}|{device.device_class}", ()),
        Standing(deployment.standing) if deployment else None,
        deployment.reason if deployment else None,
        deployment.detail if deployment else "",
        ordered == row.id,
    )
    return explain_place(device.id, reached)


async def tally(session: Session, rollout_id: str) -> list[TallyItem]:
    """Return how many devices stand how, by stratum."""
    await _row(session, rollout_id)
    return [TallyItem.model_validate(dict(line)) for line in await store.tally_by_stratum(session, rollout_id)]


async def replay_rollout(session: Session, rollout_id: str) -> RolloutReplay:
    """Make every kept decision of a rollout again from what was kept of it."""
    row = await _row(session, rollout_id)
    kept = [(line["number"], line["evidence"]) for line in await store.evidence(session, rollout_id)]
    made = await asyncio.to_thread(lambda: list(replay(row.plan, kept)))
    return _replays(made)


def _replays(made: Sequence[Replayed]) -> RolloutReplay:
    items = [ReplayedDecision(number=m.number, because=m.because, differs=list(m.differs)) for m in made]
    return RolloutReplay(decisions=len(items), different=sum(bool(item.differs) for item in items), items=items)


async def _row(session: Session, rollout_id: str) -> RolloutRow:
    row = await store.find(session, rollout_id)
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id}")
    return row
