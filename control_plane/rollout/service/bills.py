"""What versions cost until they were promoted, and what that bought in the field."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from control_plane.evaluation import service as evaluation
from control_plane.factory import service as factory
from control_plane.factory.domain import JobCost
from control_plane.kit.db import Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, VersionItem
from control_plane.rollout import store
from control_plane.rollout.domain import Bill, Compared, Driven, Prevented, Sum, prevented, summed, way_of
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.schemas import CostItem, ModelBill, PreventedItem, VersionBill, VersionLedger
from control_plane.telemetry import service as telemetry

VERSIONS_MOST = 200
"""The newest of a model; older ones are not listed and not in its sums."""
COMPARED_MOST = 20
"""Promotions whose prevented incidents are counted, the newest: each reads what every device drove."""
REPLAY = "replay"


async def version_ledger(session: Session, model: str | None = None) -> VersionLedger:
    """Add up cost and energy of every version, of all of a model's, and what the promoted ones prevented.

    Raises:
        NotFound: there is no such model.
    """
    models = [await registry.get_model(session, model)] if model else await registry.list_models(session)
    found = VersionLedger(models=[], versions=[])
    for each in models:
        total, lines = await _model_bill(session, each)
        found.models.append(total)
        found.versions.extend(lines)
    return found


async def _model_bill(session: Session, model: ModelItem) -> tuple[ModelBill, list[VersionBill]]:
    found = await registry.list_versions(session, model.name)
    versions = sorted(found, key=lambda version: version.version, reverse=True)[:VERSIONS_MOST]
    bills, costs = await _bills(session, versions)
    by_number = {version.version: bills[version.content_digest] for version in versions}
    rows = await store.promotions(session, [version.content_digest for version in versions])
    promotions = {row.content_digest: row for row in reversed(rows)}
    promoted = [version.version for version in versions if version.content_digest in promotions]
    lines = []
    for version in versions:
        row = promotions.get(version.content_digest)
        way = summed(way_of(version.version, by_number, promoted), costs) if row else None
        compared = version.version in promoted[:COMPARED_MOST]
        gained = await _gained(session, model, row) if row and row.champion and compared else None
        lines.append(_line(version, bills[version.content_digest], costs, row, way, gained))
    return _total(model.name, bills.values(), costs, len(promoted)), lines


async def _bills(session: Session, versions: Sequence[VersionItem]) -> tuple[dict[str, Bill], dict[str, JobCost]]:
    """Return each version's bill, and what the jobs on them cost."""
    contents = [version.content_digest for version in versions]
    efforts = await evaluation.efforts(session, contents)
    own = [each for each in efforts if each.content_digest == each.candidate]
    runs = {(each.candidate, each.run_id) for each in own if each.run_id}
    subjects = {subject for version in versions for subject in (version.training, version.dataset) if subject}
    paid = await factory.costs(
        session, sorted({e.job_key for e in efforts}), sorted(subjects), sorted({run for _, run in runs}), [REPLAY]
    )
    by_subject, replays = defaultdict[str, set[str]](set), defaultdict[str | None, set[str]](set)
    for cost in paid:
        by_subject[cost.subject].add(cost.key)
        if cost.kind == REPLAY:
            replays[cost.run_id].add(cost.key)
    bills = {}
    for version in versions:
        content = version.content_digest
        mine = [each for each in own if each.candidate == content]
        shown = [key for candidate, run in runs if candidate == content for key in replays[run]]
        others = [e.job_key for e in efforts if e.candidate == content != e.content_digest]
        bills[content] = Bill(
            data=frozenset(by_subject[version.dataset] if version.dataset else ()),
            training=frozenset(by_subject[version.training] if version.training else ()),
            simulation=frozenset(each.job_key for each in mine),
            gate=frozenset([*others, *shown]),
            episodes=sum(each.episodes for each in mine),
        )
    return bills, {cost.key: cost for cost in paid}


async def _gained(session: Session, model: ModelItem, row: RolloutRow) -> Prevented | None:
    """Count what a version prevented, against what its devices ran before."""
    if row.finished_at is None or row.champion is None:
        return None
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    classes, sites, pair = row.device_classes, row.sites, (row.champion, row.content_digest)
    driven = defaultdict[tuple[str, str, str], Driven](Driven)
    scale = 1000.0
    for line in await telemetry.device_sums(session, classes, sites, pair):
        held = driven[line.site, line.device_class, line.content_digest]
        held.incidents.append(sum(line.counts.get(kind, 0) for kind in kinds))
        held.exposures.append((line.distance_mm if model.exposure == "distance_m" else line.duration_ms) / scale)
    since = await telemetry.pace(session, classes, sites, [row.content_digest], kinds, row.finished_at)
    return prevented(
        Compared(line[model.exposure], *(driven[line["site"], line["device_class"], content] for content in pair))
        for line in since
    )


def _line(
    version: VersionItem,
    bill: Bill,
    costs: dict[str, JobCost],
    row: RolloutRow | None,
    way: Sum | None,
    gained: Prevented | None,
) -> VersionBill:
    simulation = summed(bill.simulation, costs)
    spared = gained.estimate if gained and gained.low > 0 else None
    return VersionBill(
        model=version.model,
        version=version.version,
        content_digest=version.content_digest,
        data=_cost(summed(bill.data, costs)),
        training=_cost(summed(bill.training, costs)),
        simulation=_cost(simulation),
        gate=_cost(summed(bill.gate, costs)),
        total=_cost(summed(bill.jobs, costs)),
        episodes=bill.episodes,
        per_1000_episodes=_cost(simulation.per(bill.episodes / 1000)) if bill.episodes and simulation.jobs else None,
        promoted_at=row.finished_at if row else None,
        baseline=row.champion if row else None,
        until_promoted=_cost(way) if way else None,
        prevented=_prevented(gained),
        per_prevented=_cost(way.per(spared)) if way and spared else None,
    )


def _total(name: str, bills: Iterable[Bill], costs: dict[str, JobCost], promoted: int) -> ModelBill:
    held = list(bills)
    episodes = sum(bill.episodes for bill in held)
    total = summed((key for bill in held for key in bill.jobs), costs)
    simulation = summed((key for bill in held for key in bill.simulation), costs)
    return ModelBill(
        model=name,
        versions=len(held),
        promoted=promoted,
        episodes=episodes,
        total=_cost(total),
        per_1000_episodes=_cost(simulation.per(episodes / 1000)) if episodes and simulation.jobs else None,
        per_promoted=_cost(total.per(promoted)) if promoted else None,
    )


def _cost(amount: Sum) -> CostItem:
    return CostItem.model_validate(amount, from_attributes=True)


def _prevented(gained: Prevented | None) -> PreventedItem | None:
    """Give the number only where it is told apart from none; the interval always, if there is one."""
    if gained is None:
        return None
    return PreventedItem(
        estimate=gained.estimate if gained.is_certain else None,
        low=gained.low if math.isfinite(gained.low) else None,
        high=gained.high if math.isfinite(gained.high) else None,
        exposure=gained.exposure,
        left_out=gained.left_out,
    )
