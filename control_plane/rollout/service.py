"""Create rollouts, take wishes, tell devices what to run, and hear how far they are."""

import asyncio
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from agents.protocol import v1 as wire
from agents.protocol.v1.safe_state import SITE_GRANT_S, all_of
from control_plane.audit import service as audit
from control_plane.evaluation import service as evaluation
from control_plane.evaluation.domain import Verdict
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Session, execute
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.signing import Signer
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import ReleaseCreate, ReleaseItem
from control_plane.rollout import store
from control_plane.rollout.domain import ENDS, Live, Order, Phase, ReleaseRef, Stratum, Wishes, order_for
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.schemas import (
    BaselineItem,
    DecisionItem,
    DeploymentItem,
    RolloutCreate,
    RolloutItem,
    RolloutWish,
)

ACTOR = "rollout-reconciler"
MANIFEST_S = 3600
SIGN_OF_LIFE_S = 5.0
MOST_HEARD = 200_000
MAX_AGE_S = 3.0
SETTLED = frozenset({wire.DeploymentPhase.COMMITTED, wire.DeploymentPhase.IDLE})


async def create_rollout(session: Session, objects: ObjectStore, actor: str, body: RolloutCreate) -> RolloutItem:
    """Plan a release's way to devices; asks people for their approval if the release needs it."""
    release = await registry.get_release(session, body.release)
    await store.lock_plans(session)
    busy = await store.live_for(session, release.device_classes)
    if busy is not None:
        raise Conflict(
            f"rollout {busy.id} is still {busy.phase} on these devices; finish or halt it first",
            code="rollout_in_progress",
        )
    verdict = await _gate_verdict(session, body, release.content_digest)
    row = await _insert_rollout(session, actor, body, release, verdict)
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
    action = "rollout.override" if body.override_reason else "rollout.create"
    because = body.override_reason or release.reason
    await audit.record(session, actor, action, row.id, because, release=row.release, gate=body.gate_id, verdict=verdict)
    return _item(row)


async def _insert_rollout(
    session: Session, actor: str, body: RolloutCreate, release: ReleaseItem, verdict: str | None
) -> RolloutRow:
    try:
        plan = body.plan.to_plan(release.approvals_needed)
    except ValueError as error:
        raise Invalid(str(error), code="bad_plan") from error
    baselines = {b.device_class: b.content_digest for b in await store.baselines(session)}
    row = RolloutRow(
        id=new_id("roll"),
        model=release.model,
        release=release.digest,
        content_digest=release.content_digest,
        counter=release.counter,
        device_classes=release.device_classes,
        sites=body.sites,
        champion=next((baselines[c] for c in release.device_classes if c in baselines), None),
        plan=asdict(plan),
        gate_id=body.gate_id,
        gate_verdict=verdict,
        override_reason=body.override_reason,
        wishes=asdict(Wishes(start=body.start)),
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


@dataclass(slots=True)
class Board:
    """Who is offered what, as this process last read it; NOTIFY and a short age make it read again."""

    live: dict[str, list[Live]] = field(default_factory=dict)
    baseline: dict[str, list[ReleaseRef]] = field(default_factory=dict)
    sites: dict[str, frozenset[str] | None] = field(default_factory=dict)
    class_rules: dict[str, str] = field(default_factory=dict)
    tracked: frozenset[str] = frozenset()
    heard: dict[str, tuple[object, float]] = field(default_factory=dict)
    revision: int = 0
    director_keys: frozenset[str] | None = None
    read_at: float = -1e9
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def forget(self) -> None:
        self.read_at = -1e9

    def is_news(self, device_id: str, said: object) -> bool:
        """Say whether a device's report must be written: it is new, or the last one is old."""
        now = asyncio.get_running_loop().time()
        before, at = self.heard.get(device_id, (None, -1e9))
        return before != said or now - at >= SIGN_OF_LIFE_S

    def hear(self, device_id: str, said: object) -> None:
        if len(self.heard) >= MOST_HEARD:
            self.heard.clear()
        self.heard[device_id] = (said, asyncio.get_running_loop().time())

    @property
    def is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self.read_at <= MAX_AGE_S

    async def fresh(self, session: Session, objects: ObjectStore) -> "Board":
        async with self.reading:  # one reads for all who wait
            if not self.is_fresh:
                begun = asyncio.get_running_loop().time()
                await _read_board(session, self)
                await _read_trust(session, objects, self)
                self.read_at = begun
        return self

    def order(self, who: Identity, floor: int) -> Order | None:
        live = [r for r in self.live.get(who.device_class, []) if self._reaches(r.rollout_id, who.site)]
        stratum = Stratum(who.site, who.device_class)
        order = order_for(who.id, stratum, floor, live, self.baseline.get(who.device_class, []))
        rule = self.class_rules.get(who.device_class)
        # What the class asks for holds for every release, the fleet's own as well.
        return replace(order, safe_state=all_of([rule, order.safe_state])) if order and rule else order

    def _reaches(self, rollout_id: str, site: str) -> bool:
        sites = self.sites.get(rollout_id)
        return sites is None or site in sites


async def _read_board(session: Session, board: Board) -> None:
    live: dict[str, list[Live]] = {}
    rows = await store.offering(session)
    for row in rows:
        release = await _ref(session, row.release)
        limits = {Stratum(*key.split("|", 1)): values[row.stage] for key, values in row.limits.items()}
        fraction = row.plan["stages"][row.stage]["fraction"]
        plan = row.plan
        how = (plan.get("safe_state", ""), plan.get("shadow_s", 0.0), plan.get("site_budget"))
        found = Live(row.id, release, limits, fraction, *how)
        for device_class in row.device_classes:
            live.setdefault(device_class, []).append(found)
        board.sites[row.id] = frozenset(row.sites) if row.sites is not None else None
    board.live = live
    board.class_rules = {each.name: each.safe_state for each in await fleet.list_classes(session) if each.safe_state}
    board.tracked = frozenset(await store.unfinished(session))
    board.baseline = {b.device_class: await _same_content(session, b.release) for b in await store.baselines(session)}


async def _read_trust(session: Session, objects: ObjectStore, board: Board) -> None:
    """Read which TUF revision is out, and with which keys the policy in it lets a director sign."""
    revision = await registry.revision(session)
    if revision != board.revision:
        policy = await registry.current_policy(session, objects)
        board.revision, board.director_keys = revision, frozenset(policy.director) if policy else None


async def _same_content(session: Session, digest: str) -> list[ReleaseRef]:
    """Return a release and every later one of the same content for the same model."""
    found = await registry.later_releases(session, digest)
    return [ReleaseRef(r.digest, r.size_bytes, r.counter, r.content_digest) for r in found]


async def _ref(session: Session, digest: str) -> ReleaseRef:
    return (await _same_content(session, digest))[0]


def sign_manifest(
    signer: Signer, who: Identity, message: wire.CheckIn, order: Order | None, revision: int = 0
) -> wire.Envelope:
    """Say what this device should run, in an envelope good for this one check-in."""
    now = clock.now()
    manifest = wire.DirectorManifest(
        device_id=who.id,
        nonce=message.nonce,
        seq=message.seq,
        issued_at=now,
        expires_at=now + timedelta(seconds=MANIFEST_S),
        revision=revision,
        order=_wire_order(order) if order else None,
    )
    payload = manifest.model_dump_json(by_alias=True).encode()
    return wire.seal_envelope(wire.DIRECTOR_PAYLOAD, payload, [signer.private])


def _wire_order(order: Order) -> wire.ReleaseOrder:
    return wire.ReleaseOrder(
        release_digest=order.release.digest,
        size_bytes=order.release.size_bytes,
        counter=order.release.counter,
        rollout_id=order.rollout_id,
        stage_fraction=order.stage_fraction,
        safe_state=order.safe_state or None,
        site_free=order.site_free,
        shadow_s=order.shadow_s,
    )


def asks_for_site(order: Order | None, message: wire.CheckIn) -> bool:
    """Say whether a device stands ready and only its site's budget can be what holds it."""
    said = message.deployment
    return (
        order is not None
        and order.site_budget is not None
        and said is not None
        and said.release_digest == order.release.digest
        and said.phase is wire.DeploymentPhase.ARMED
        and said.reason in {None, "waiting_site"}
    )


async def grant_site(session: Session, who: Identity, order: Order) -> Order:
    """Let a device out if its site's budget has room; a grant that is not used ends by itself."""
    if order.rollout_id is None or order.site_budget is None:
        return order
    free = await store.grant_site(session, order.rollout_id, who.id, who.site, order.site_budget, SITE_GRANT_S)
    return replace(order, site_free=free)


def tells_news(board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> bool:
    """Say whether `track` would write anything."""
    rollout_id = order.rollout_id if order is not None else None
    if rollout_id is None and not board.tracked:
        return False
    return board.is_news(who.id, (rollout_id, message.active, message.deployment))


async def track(session: Session, board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> None:
    """Keep a device's way through a rollout: what it was offered, how far it is, what it runs.

    Written when it says something new, and every few seconds as a sign of life.
    """
    if not tells_news(board, who, message, order):
        return
    rollout_id = order.rollout_id if order is not None else None
    board.hear(who.id, (rollout_id, message.active, message.deployment))
    active = message.active.content_digest if message.active else None
    report = message.deployment
    if order is None or rollout_id is None:
        phase = {"phase": "idle"} if report is None or report.phase in SETTLED else {}
        await store.touch_deployment(session, who.id, {"seen_at": clock.now(), "active_content": active} | phase)
        return
    about = report if report is not None and report.release_digest == order.release.digest else None
    await store.put_deployment(session, _deployment(who, rollout_id, active, about))
    if about is not None and about.phase is wire.DeploymentPhase.COMMITTED:
        await lineage.link(session, Node(Kind.DEVICE, who.id), [Node(Kind.ROLLOUT, rollout_id)], "runs")


def _deployment(
    who: Identity, rollout_id: str, active: str | None, about: wire.DeploymentReport | None
) -> dict[str, Any]:
    return {
        "rollout_id": rollout_id,
        "device_id": who.id,
        "site": who.site,
        "device_class": who.device_class,
        "seen_at": clock.now(),
        "phase": about.phase.value if about else "offered",
        "reason": about.reason if about else None,
        "detail": about.detail if about else "",
        "active_content": active,
        "qualification": about.qualification if about else {},
    }


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


async def list_deployments(session: Session, rollout_id: str) -> list[DeploymentItem]:
    await _row(session, rollout_id)
    found = await store.deployments(session, rollout_id)
    return [DeploymentItem.model_validate(d, from_attributes=True) for d in found]


async def list_baselines(session: Session) -> list[BaselineItem]:
    return [BaselineItem.model_validate(b, from_attributes=True) for b in await store.baselines(session)]


async def _row(session: Session, rollout_id: str, *, lock: bool = False) -> RolloutRow:
    row = await store.find(session, rollout_id, lock=lock)
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id}")
    return row


def _item(row: RolloutRow) -> RolloutItem:
    return RolloutItem.model_validate(row, from_attributes=True)
