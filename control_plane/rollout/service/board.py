"""Who is offered what, as one process last read it; and the envelope in which the director says so."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

from agents.protocol import v1 as wire
from agents.protocol.v1.safe_state import all_of
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.objects import ObjectStore
from control_plane.kit.signing import Signer
from control_plane.registry import service as registry
from control_plane.rollout import store
from control_plane.rollout.domain import Live, Order, Phase, Plan, ReleaseRef, Stratum, order_for, read_plan
from control_plane.rollout.models import RolloutRow

MANIFEST_S = 3600
SIGN_OF_LIFE_S = 5.0
MOST_HEARD = 200_000
MAX_AGE_S = 3.0


@dataclass(slots=True)
class Board:
    """Who is offered what, as this process last read it; NOTIFY and a short age make it read again.

    `generation` grows whenever that changed. `apart`: devices that did not come back from a rollout, and are told of
    none until they have.
    """

    live: dict[str, list[Live]] = field(default_factory=dict)
    baseline: dict[tuple[str, str], list[ReleaseRef]] = field(default_factory=dict)
    sites: dict[str, frozenset[str] | None] = field(default_factory=dict)
    class_rules: dict[str, str] = field(default_factory=dict)
    tracked: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    heard: dict[str, tuple[object, float]] = field(default_factory=dict)
    revision: int = 0
    generation: int = 0
    changes: int = 0
    director_keys: frozenset[str] | None = None
    read_at: float = -1e9
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def forget(self) -> None:
        self.read_at = -1e9
        self.changes += 1
        self.changed.set()

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
    def age_s(self) -> float:
        return asyncio.get_running_loop().time() - self.read_at

    @property
    def is_fresh(self) -> bool:
        return self.age_s <= MAX_AGE_S

    @property
    def _content(self) -> tuple[object, ...]:
        return (
            self.live,
            self.baseline,
            self.apart,
            dict(self.sites),
            self.class_rules,
            self.revision,
            self.director_keys,
        )

    async def fresh(self, session: Session, objects: ObjectStore) -> "Board":
        async with self.reading:  # one reads for all who wait
            if not self.is_fresh:
                await self._read(session, objects)
        return self

    async def since(self, session: Session, objects: ObjectStore, at: float) -> "Board":
        """Read again unless it was read after an instant (of the loop's clock); one reads for all who wait."""
        async with self.reading:
            if self.read_at < at:
                await self._read(session, objects)
        return self

    async def ahead(self, session: Session, objects: ObjectStore) -> None:
        """Read again, before it has to be."""
        async with self.reading:
            self.changed.clear()
            await self._read(session, objects)

    async def _read(self, session: Session, objects: ObjectStore) -> None:
        begun, before, changes = asyncio.get_running_loop().time(), self._content, self.changes
        await _read_board(session, self)
        await _read_trust(session, objects, self)
        self.generation += before != self._content
        if changes == self.changes:  # what was read may be older than what a notification told of meanwhile
            self.read_at = begun

    def order(self, who: Identity, floor: int, running: str | None = None) -> Order | None:
        """Return what a device should run; `running` is the content it says it runs."""
        known = [] if who.id in self.apart else self.live.get(who.device_class, [])
        return self._order(who, floor, [each for each in known if self._reaches(each.rollout_id, who.site)], running)

    def sends_back(self, order: Order | None, running: str | None) -> bool:
        """Say whether a device is told to leave what it runs for the fleet's own release.

        Another process may have offered it what it runs a moment ago. Its counter floor then lets it take only a later
        re-release of the old bytes, and never again what it was offered; so this is told by a board read after it came.
        """
        return order is not None and order.rollout_id is None and running not in {None, order.release.content_digest}

    def baseline_order(self, who: Identity, floor: int) -> Order | None:
        """Return what a device should run if there were no rollout."""
        return self._order(who, floor, [], None)

    def _order(self, who: Identity, floor: int, live: list[Live], running: str | None) -> Order | None:
        stratum = Stratum(who.site, who.device_class)
        order = order_for(who.id, stratum, floor, live, self._baseline(who), running)
        rule = self.class_rules.get(who.device_class)
        # What the class asks for holds for every release, the fleet's own as well.
        return replace(order, safe_state=all_of([rule, order.safe_state])) if order and rule else order

    def _baseline(self, who: Identity) -> list[ReleaseRef]:
        everywhere = self.baseline.get((who.device_class, ""), [])
        return self.baseline.get((who.device_class, who.site), everywhere)

    def highest_counter(self, who: Identity) -> int | None:
        """Return the highest counter under which a device may have the fleet's own release, if there is one."""
        return max((release.counter for release in self._baseline(who)), default=None)

    def own_counter(self, who: Identity) -> int | None:
        """Return the counter of the release that became the fleet's own for a device, if there is one."""
        return min((release.counter for release in self._baseline(who)), default=None)

    def _reaches(self, rollout_id: str, site: str) -> bool:
        sites = self.sites.get(rollout_id)
        return sites is None or site in sites


async def _read_board(session: Session, board: Board) -> None:
    """Read what is offered before what everybody has: a rollout that ends meanwhile is then found in one of them."""
    live: dict[str, list[Live]] = {}
    sites: dict[str, frozenset[str] | None] = {}
    for row in await store.offering(session):
        found = _live(row, await _ref(session, row.release))
        for device_class in row.device_classes:
            live.setdefault(device_class, []).append(found)
        sites[row.id] = frozenset(row.sites) if row.sites is not None else None
    rules = {each.name: each.safe_state for each in await fleet.list_classes(session) if each.safe_state}
    tracked, apart = frozenset(await store.unfinished(session)), frozenset(await store.quarantined(session))
    baseline = {
        (b.device_class, b.site): await _same_content(session, b.release) for b in await store.baselines(session)
    }
    # All at once: a device that asks while this is read must not find a rollout gone whose baseline is not there yet.
    board.live, board.sites, board.baseline = live, sites, baseline
    board.class_rules, board.tracked, board.apart = rules, tracked, apart


def _returning(row: RolloutRow, plan: Plan) -> float | None:
    """Say which share of devices is to go back; a paused rollout sends none back and lets nobody begin."""
    if row.phase == Phase.PAUSED:
        return 0.0
    return None if row.offering else plan.returns[min(row.wave, len(plan.returns) - 1)]


def _live(row: RolloutRow, release: ReleaseRef) -> Live:
    plan = read_plan(row.plan)
    return Live(
        row.id,
        release,
        {Stratum(*key.split("|", 1)): values[row.stage] for key, values in row.limits.items()},
        plan.stages[row.stage].fraction,
        plan.safe_state,
        plan.shadow_s,
        plan.site_budget,
        _returning(row, plan),
        plan.cell_label,
        plan.cell_budget,
        plan.windows,
    )


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
        order=wire_order(order) if order else None,
    )
    payload = manifest.model_dump_json(by_alias=True).encode()
    return wire.seal_envelope(wire.DIRECTOR_PAYLOAD, payload, [signer.private])


def wire_order(order: Order) -> wire.ReleaseOrder:
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
