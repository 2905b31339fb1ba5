"""What versions cost until they were promoted, and what that bought in the field."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from control_plane.evaluation import service as evaluation
from control_plane.evaluation.domain import Effort
from control_plane.factory import service as factory
from control_plane.factory.domain import JobCost
from control_plane.kit.db import Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, VersionItem
from control_plane.rollout import store
from control_plane.rollout.domain import Bill, Compared, Driven, Prevented, Sum, prevented, summed, way_of, whole
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.schemas import CostItem, ModelBill, OtherCost, PreventedItem, VersionBill, VersionLedger
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
    found = [await _model_bill(session, each) for each in models]
    billed = {job for _, _, jobs in found for job in jobs}
    return VersionLedger(
        models=[total for total, _, _ in found],
        versions=[line for _, lines, _ in found for line in lines],
        of_no_version=None if model else await _of_no_version(session, billed),
    )


async def _of_no_version(session: Session, billed: set[str]) -> OtherCost:
    """Add up what is on no version's bill, so that the ledger's sum is that of its lines."""
    lines = await factory.spent(session, sorted(billed))
    return OtherCost(
        jobs=sum(line.jobs for line in lines),
        usd=sum(line.usd for line in lines),
        energy_j=sum(line.energy_j for line in lines),
        energy_is_estimate=any(line.energy_is_estimate for line in lines),
        kinds=[line.kind for line in lines],
    )


async def _model_bill(session: Session, model: ModelItem) -> tuple[ModelBill, list[VersionBill], set[str]]:
    """Return a model's sums, its versions' bills, and the jobs on any of them."""
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
        at = row.finished_at if row else None
        way = summed(way_of(version.version, at, by_number, promoted, costs), costs) if at else None
        compared = version.version in promoted[:COMPARED_MOST]
        gained = await _gained(session, model, row) if row and row.champion and compared else None
        lines.append(_line(version, bills[version.content_digest], costs, row, way, gained))
    jobs = {key for bill in bills.values() for key in bill.shares}
    return _total(model.name, bills.values(), costs, len(promoted)), lines, jobs


async def _bills(session: Session, versions: Sequence[VersionItem]) -> tuple[dict[str, Bill], dict[str, JobCost]]:
    """Return each version's bill, and what the jobs on them cost."""
    efforts = await evaluation.efforts(session, [version.content_digest for version in versions])
    mine, others = defaultdict[str, list[Effort]](list), defaultdict[str, list[Effort]](list)
    for each in efforts:
        (mine if each.content_digest == each.candidate else others)[each.candidate].append(each)
    datasets = sorted({version.dataset for version in versions if version.dataset})
    trainings = sorted({version.training for version in versions if version.training})
    runs = sorted({each.run_id for each in efforts if each.run_id and each.content_digest == each.candidate})
    keys = sorted({each.job_key for each in efforts})
    paid = await factory.costs(session, keys, [*trainings, *datasets], runs, [REPLAY])
    made = Made(paid, await factory.readers(session, datasets, trainings))
    bills = {
        version.content_digest: made.bill(version, mine[version.content_digest], others[version.content_digest])
        for version in versions
    }
    return bills, {cost.key: cost for cost in paid}


class Made:
    """Jobs by what they can be told to have been for."""

    def __init__(self, paid: Sequence[JobCost], read: Collection[tuple[str, str]]) -> None:
        self._read = read
        self._by_subject = defaultdict[str, list[JobCost]](list)
        self._replays = defaultdict[str | None, set[str]](set)
        for cost in paid:
            self._by_subject[cost.subject].append(cost)
            if cost.kind == REPLAY:
                self._replays[cost.run_id].add(cost.key)

    def bill(self, version: VersionItem, mine: Sequence[Effort], others: Sequence[Effort]) -> Bill:
        training = self._by_subject[version.training] if version.training else []
        replays = {key for run in {each.run_id for each in mine if each.run_id} for key in self._replays[run]}
        return Bill(
            data=frozenset(cost.key for cost in self._data(version, training)),
            training=frozenset(cost.key for cost in training),
            simulation=frozenset(each.job_key for each in mine),
            gate=_weighed(others) | whole(replays),
            episodes=sum(each.episodes for each in mine),
            runs=frozenset(cost.run_id for cost in training if cost.run_id),
        )

    def _data(self, version: VersionItem, training: Sequence[JobCost]) -> list[JobCost]:
        """Return the jobs on its dataset that its training read or that were made in its run.

        Later runs may work on the same dataset again, for other versions. Of a version whose training is no job of
        ours nobody knows what it read: what was there when it came counts.
        """
        jobs = self._by_subject[version.dataset] if version.dataset else []
        if not training:
            return [job for job in jobs if job.asked_at <= version.created_at]
        runs = {job.run_id for job in training if job.run_id}
        return [job for job in jobs if (job.key, version.training) in self._read or job.run_id in runs]


def _weighed(efforts: Iterable[Effort]) -> dict[str, float]:
    """Return by job which share of its episodes a gate used."""
    used, all_of_it = defaultdict[str, int](int), defaultdict[str, int](int)
    for each in efforts:
        used[each.job_key] += each.used
        all_of_it[each.job_key] += each.episodes
    return {key: used[key] / all_of_it[key] for key in used}


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
    simulation = summed(whole(bill.simulation), costs)
    spared = gained.estimate if gained and gained.low > 0 else None
    return VersionBill(
        model=version.model,
        version=version.version,
        content_digest=version.content_digest,
        data=_cost(summed(whole(bill.data), costs)),
        training=_cost(summed(whole(bill.training), costs)),
        simulation=_cost(simulation),
        gate=_cost(summed(bill.gate, costs)),
        total=_cost(summed(bill.shares, costs)),
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
    total = summed(whole(key for bill in held for key in bill.shares), costs)
    simulation = summed(whole(key for bill in held for key in bill.simulation), costs)
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
