"""Create rollouts, take wishes, show how they stand."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from control_plane.audit import service as audit
from control_plane.evaluation import service as evaluation
from control_plane.evaluation.domain import Verdict
from control_plane.kit import clock, outbox
from control_plane.kit.db import Session, execute
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import ReleaseCreate, ReleaseItem
from control_plane.rollout import store
from control_plane.rollout.domain import ENDS, Phase, Plan, Wishes
from control_plane.rollout.models import Deployment, RolloutRow
from control_plane.rollout.schemas import (
    BaselineItem,
    DecisionItem,
    DeploymentItem,
    ForecastItem,
    RolloutCreate,
    RolloutItem,
    RolloutWish,
)
from control_plane.rollout.service.forecast import forecast

ACTOR = "rollout-reconciler"


async def create_rollout(session: Session, objects: ObjectStore, actor: str, body: RolloutCreate) -> RolloutItem:
    """Plan a release's way to devices; asks people for their approval if the release needs it."""
    release = await registry.get_release(session, body.release)
    await store.lock_plans(session)
    busy = await store.live_for(session, release.device_classes, body.sites)
    if busy and not body.preempt:
        raise Conflict(
            f"rollout {busy[0].id} is still {busy[0].phase} on these devices; finish or halt it first, or pre-empt it",
            code="rollout_in_progress",
        )
    verdict = await _gate_verdict(session, body, release.content_digest)
    row = await _insert_rollout(session, actor, body, release, verdict)
    await _preempt(session, actor, row, busy)
    await _cut_way_back(session, objects, row)
    await _link(session, row)
    evidence = {
        "gate": body.gate_id,
        "verdict": verdict,
        "override_reason": body.override_reason,
        "rollout": row.id,
        "way_back": row.restore_release,
    }
    await registry.ask_approval(session, actor, release.digest, evidence)
    await outbox.tell_lineage(session, "promote", row.id, "START", clock.now())
    action = "rollout.override" if body.override_reason else "rollout.create"
    because = body.override_reason or release.reason
    await audit.record(session, actor, action, row.id, because, release=row.release, gate=body.gate_id, verdict=verdict)
    return _item(row)


async def _insert_rollout(
    session: Session, actor: str, body: RolloutCreate, release: ReleaseItem, verdict: str | None
) -> RolloutRow:
    plan, expected = await _planned(session, body, release)
    baselines = {(b.device_class, b.site): b.content_digest for b in await store.baselines(session)}
    row = RolloutRow(
        id=new_id("roll"),
        model=release.model,
        release=release.digest,
        content_digest=release.content_digest,
        counter=release.counter,
        device_classes=release.device_classes,
        sites=body.sites,
        champion=_champion(release.device_classes, body.sites, baselines),
        forecast=expected.model_dump(mode="json"),
        plan_override="" if expected.can_decide else body.plan_override,
        plan=asdict(replace(plan, unit=expected.unit)),
        gate_id=body.gate_id,
        gate_verdict=verdict,
        override_reason=body.override_reason,
        wishes=asdict(Wishes(start=body.start)),
        preempts=[],
        preempted_by="",
        wave=0,
        counts={},
        sizes={},
        phase=Phase.DRAFT,
        stage=0,
        exposure_before=0.0,
        limits={},
        offering=False,
        because="just made",
        figures={},
        created_by=actor,
    )
    session.add(row)
    await session.flush()
    return row


async def _planned(session: Session, body: RolloutCreate, release: ReleaseItem) -> tuple[Plan, ForecastItem]:
    """Return the plan with what it can decide; one that cannot decide must be overridden by name."""
    try:
        plan = body.plan.to_plan(release.approvals_needed)
    except ValueError as error:
        raise Invalid(str(error), code="bad_plan") from error
    expected = await forecast(session, release.model, release.device_classes, body.sites, plan)
    if not expected.can_decide and not body.plan_override:
        raise Invalid(
            f"this plan cannot decide: {expected.because}; change it, or override it and say why",
            code="plan_cannot_decide",
        )
    return plan, expected


def _champion(device_classes: list[str], sites: list[str] | None, baselines: dict[tuple[str, str], str]) -> str | None:
    """Return what these devices run now; a site's own baseline goes before its class's."""
    places = [(c, site) for c in device_classes for site in [*(sites or []), ""]]
    return next((baselines[place] for place in places if place in baselines), None)


async def _preempt(session: Session, actor: str, row: RolloutRow, busy: Sequence[RolloutRow]) -> None:
    """Take the devices of rollouts under way: they halt, and where both reach a device the newer one is ordered."""
    row.preempts = [each.id for each in busy]
    for each in busy:
        each.preempted_by = row.id
        await audit.record(session, actor, "rollout.preempt", each.id, f"for the newer rollout {row.id}")


async def _cut_way_back(session: Session, objects: ObjectStore, row: RolloutRow) -> None:
    """Cut the release that takes devices back, so that people sign for both at once and halting waits for nobody."""
    if row.champion is None:
        return
    body = ReleaseCreate(
        content_digest=row.champion, device_classes=row.device_classes, reason=f"the way back from rollout {row.id}"
    )
    release = await registry.create_release(session, objects, ACTOR, 0, body, way_back_of=row.release)
    row.restore_release = release.digest
    await lineage.link(session, Node(Kind.RELEASE, release.digest), [Node(Kind.ROLLOUT, row.id)], "takes back")


async def _gate_verdict(session: Session, body: RolloutCreate, content: str) -> str | None:
    if body.gate_id is None:
        return None
    gate = await evaluation.get_gate(session, body.gate_id)
    if gate.candidate != content:
        raise Invalid("that gate judged another model version", code="gate_of_another")
    if gate.verdict is not Verdict.PASS and not body.override_reason:
        raise Invalid(
            f"the gate said {gate.verdict}: {gate.because}; an override needs a reason", code="gate_not_passed"
        )
    return gate.verdict


async def _link(session: Session, row: RolloutRow) -> None:
    node = Node(Kind.ROLLOUT, row.id)
    await lineage.link(session, node, [Node(Kind.RELEASE, row.release)], "rolls out")
    if row.gate_id:
        await lineage.link(session, Node(Kind.RELEASE, row.release), [Node(Kind.GATE, row.gate_id)], "gated by")


async def wish(session: Session, actor: str, rollout_id: str, body: RolloutWish) -> RolloutItem:
    row = await _row(session, rollout_id, lock=True)
    if Phase(row.phase) in ENDS:
        raise Conflict(f"rollout {rollout_id} is {row.phase} already")
    changes: dict[str, dict[str, Any]] = {
        "start": {"start": True},
        "pause": {"pause": True},
        "resume": {"pause": False},
        "halt": {"halt": True},
        "proceed": {"proceed_past": row.stage},
        "extend": {
            "extra_exposure": row.wishes["extra_exposure"] + body.extra_exposure,
            "extra_s": row.wishes["extra_s"] + body.extra_s,
        },
    }
    row.wishes = row.wishes | changes[body.action]
    await audit.record(session, actor, f"rollout.{body.action}", rollout_id, body.reason)
    await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")
    return _item(row)


async def get(session: Session, rollout_id: str) -> RolloutItem:
    return _item(await _row(session, rollout_id))


async def list_rollouts(session: Session, *, after: str | None = None, limit: int = 50) -> Page[RolloutItem]:
    cursor = decode_cursor(after)
    found = await store.list_rollouts(session, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([_item(row) for row in found], limit, lambda item: item.id)


async def list_decisions(session: Session, rollout_id: str, limit: int = 500) -> list[DecisionItem]:
    await _row(session, rollout_id)
    found = await store.decisions(session, rollout_id, limit)
    return [DecisionItem.model_validate(d, from_attributes=True) for d in found]


async def list_deployments(
    session: Session, rollout_id: str, *, standing: str | None = None, after: str = "", limit: int = 500
) -> list[DeploymentItem]:
    """List devices by id, from behind `after`."""
    row = await _row(session, rollout_id)
    found = await store.deployments(session, rollout_id, standing, after, limit)
    return [_deployment(deployment, row.content_digest) for deployment in found]


async def device_history(session: Session, device_id: str, limit: int) -> list[DeploymentItem]:
    """Return a device's ways through the newest rollouts that reached it."""
    return [_deployment(*found) for found in await store.device_history(session, device_id, limit)]


def _deployment(deployment: Deployment, offered: str) -> DeploymentItem:
    item = DeploymentItem.model_validate(deployment, from_attributes=True)
    return item.model_copy(update={"offered_content": offered})


async def list_baselines(session: Session) -> list[BaselineItem]:
    return [BaselineItem.model_validate(b, from_attributes=True) for b in await store.baselines(session)]


async def _row(session: Session, rollout_id: str, *, lock: bool = False) -> RolloutRow:
    row = await store.find(session, rollout_id, lock=lock)
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id}")
    return row


def _item(row: RolloutRow) -> RolloutItem:
    return RolloutItem.model_validate(row, from_attributes=True)
