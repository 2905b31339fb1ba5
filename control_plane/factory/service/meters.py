"""What exporters said: taken in by the minute, given out as figures, and charged to the jobs that held the GPUs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.factory.domain import (
    ENOUGH_COVERED,
    MINUTE_S,
    Amount,
    ExporterKind,
    Figures,
    Histogram,
    Increment,
    Line,
    Measure,
    Rates,
    Reading,
    bound_word,
    figures,
    from_plain,
    increase,
    merged,
    metered,
    to_plain,
)
from control_plane.factory.models import Cluster, Exporter, Meter, Use
from control_plane.factory.schemas import (
    ClusterMeters,
    ExporterItem,
    ExporterPut,
    FiguresItem,
    JobMeters,
    MeterPoint,
    UseItem,
)
from control_plane.factory.store import jobs, meters
from control_plane.kit import clock
from control_plane.kit.db import Row, Session
from control_plane.kit.errors import NotFound

MOST_POINTS = 60
SETTLE_AFTER_S, GIVE_UP_AFTER_S = 90.0, 900.0
"""After its end a job's last minute is not whole yet; what is not there after a quarter of an hour does not come."""
SETTLED_AT_ONCE = 20
measures = meters.measures


async def put_exporters(session: Session, cluster: str, wanted: Sequence[ExporterPut]) -> None:
    await meters.put_exporters(session, cluster, {each.url: str(each.kind) for each in wanted})


async def exporters_of(session: Session) -> dict[str, list[ExporterPut]]:
    """Return every cluster's exporters."""
    found = defaultdict[str, list[ExporterPut]](list)
    for each in await meters.list_exporters(session):
        found[each.cluster].append(ExporterPut(kind=ExporterKind(each.kind), url=each.url))
    return dict(found)


async def claim(session: Session, limit: int, every_s: float) -> Sequence[Row]:
    return await meters.claim(session, limit, every_s)


async def heard(session: Session, exporter_id: str, said: Reading | str, at_s: float) -> None:
    """Take what came of a scrape: a reading, or why there is none.

    A reading that is older than the one that is held changes nothing, so that no second is counted twice.
    """
    exporter = await meters.lock_exporter(session, exporter_id)
    at = _instant(at_s)
    if exporter is None or (exporter.tried_at is not None and exporter.tried_at >= at):
        return  # an admin took it away meanwhile, or another worker was quicker
    exporter.tried_at = at
    if isinstance(said, str):
        exporter.error = said[:300].replace("\x00", "")
        await _write(session, exporter.id, None, at_s, answered=False)
        return
    before = from_plain(exporter.reading) if exporter.reading else None
    exporter.answered_at, exporter.error, exporter.dropped = at, "", said.dropped
    exporter.started_at = _instant(said.started_at_s) if said.started_at_s is not None else None
    exporter.reading = to_plain(said)
    exporter.places = exporter.places | {source: list(place) for source, place in said.places.items()}
    await _write(session, exporter.id, increase(before, said), at_s, answered=True)


async def _write(session: Session, exporter: str, made: Increment | None, at_s: float, *, answered: bool) -> None:
    """Add an increment to its minutes, and the try to the minute in which it was made."""
    tried = int(at_s // MINUTE_S) * MINUTE_S
    shares = dict(made.minutes()) if made else {}
    instants = {minute: _instant(minute) for minute in (*shares, tried)}
    held = {(each.at, each.source): each for each in await meters.minutes(session, exporter, instants.values())}
    parts = dict[tuple[datetime, str], tuple[Amount, dict[Measure, Histogram]]]()
    parts[instants[tried], ""] = (Amount(), {})
    for minute, share in shares.items():
        for source, amount in (made.amounts if made else {}).items():
            parts[instants[minute], source] = (amount.scaled(share), {})
        if made and made.histograms:
            amount, _ = parts.get((instants[minute], ""), (Amount(), {}))
            parts[instants[minute], ""] = (amount, {m: each.scaled(share) for m, each in made.histograms.items()})
    values = [_row(exporter, key, held.get(key), amount, waits) for key, (amount, waits) in parts.items()]
    for value in values:
        if value["at"] == instants[tried] and value["source"] == "":
            value["tries"], value["answers"] = value["tries"] + 1, value["answers"] + int(answered)
    await meters.write_minutes(session, values)


def _row(
    exporter: str,
    key: tuple[datetime, str],
    held: Meter | None,
    amount: Amount,
    waits: Mapping[Measure, Histogram],
) -> dict[str, Any]:
    kept = _histograms(held.histograms) if held is not None else {}
    both = {measure: merged(part[measure] for part in (kept, waits) if measure in part) for measure in {*kept, *waits}}
    return {
        "exporter": exporter,
        "at": key[0],
        "source": key[1],
        "tries": held.tries if held else 0,
        "answers": held.answers if held else 0,
        **{name: _added(getattr(held, name, None), value) for name, value in asdict(amount).items()},
        "histograms": _plain(both) or None,
    }


def _added(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


def _plain(held: Mapping[Measure, Histogram]) -> dict[str, Any]:
    return {
        str(measure): {"sum": each.sum, "at_most": {bound_word(b): n for b, n in each.at_most.items()}}
        for measure, each in held.items()
        if each.at_most
    }


def _histograms(plain: Mapping[str, Any] | None) -> dict[Measure, Histogram]:
    return {
        Measure(name): Histogram({float(b): n for b, n in each["at_most"].items()}, each["sum"])
        for name, each in (plain or {}).items()
    }


def _instant(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


async def cluster_meters(session: Session, name: str, hours: float) -> ClusterMeters:
    """Return what a cluster's exporters measured in the last hours.

    Raises:
        NotFound: there is no such cluster.
    """
    cluster = await jobs.find_cluster(session, name)
    if cluster is None:
        raise NotFound(f"there is no cluster {name!r}")
    step_s = _step_s(hours)
    last = int(clock.now().timestamp() // step_s) + 1
    first = last - max(1, round(hours * 3600 / step_s))
    starts_at, ends_at = _instant(first * step_s), _instant(last * step_s)
    told = await meters.lines(session, name, starts_at, ends_at, step_s)
    lines = _lines(told, await meters.histograms(session, name, starts_at, ends_at, step_s))
    rates = rates_of(cluster)
    by_step = {step: [line for line in lines if line.step == step] for step in range(first, last)}
    return ClusterMeters(
        cluster=name,
        starts_at=starts_at,
        ends_at=ends_at,
        step_s=step_s,
        exporters=[_exporter(each, told) for each in await meters.list_exporters(session, name)],
        total=FiguresItem(**_figures(figures(lines, rates))),
        points=[
            MeterPoint(at=_instant(step * step_s), **_figures(figures(held, rates))) for step, held in by_step.items()
        ],
    )


def rates_of(cluster: Cluster) -> Rates:
    return Rates(cluster.usd_per_hour, cluster.usd_per_gpu_hour, cluster.usd_per_kwh)


def _step_s(hours: float) -> int:
    minutes = -(-int(hours * 60) // MOST_POINTS)
    return max(minutes, 1) * MINUTE_S


def _lines(told: Iterable[Row], waits: Iterable[Row]) -> list[Line]:
    parts = defaultdict[tuple[str, int], list[dict[Measure, Histogram]]](list)
    for row in waits:
        parts[row["exporter"], row["step"]].append(_histograms(row["histograms"]))
    found = []
    for row in told:
        amount = Amount(**{name: row[name] for name in meters.AMOUNTS})
        held = parts.get((row["exporter"], row["step"]), []) if not row["source"] else []
        kinds = {measure for part in held for measure in part}
        spread = {measure: merged(part[measure] for part in held if measure in part) for measure in kinds}
        found.append(Line(row["step"], ExporterKind(row["kind"]), row["exporter"], row["source"], amount, spread))
    return found


def _figures(found: Figures) -> dict[str, Any]:
    return asdict(found) | {"energy_j": found.energy_j}


def _exporter(exporter: Exporter, told: Iterable[Row]) -> ExporterItem:
    mine = [row for row in told if row["exporter"] == exporter.id]
    tries = sum(row["tries"] for row in mine)
    return ExporterItem(
        kind=ExporterKind(exporter.kind),
        url=exporter.url,
        answered_at=exporter.answered_at,
        started_at=exporter.started_at,
        error=exporter.error,
        dropped=exporter.dropped,
        uptime=sum(row["answers"] for row in mine) / tries if tries else None,
    )


async def job_meters(session: Session, key: str) -> JobMeters:
    """Return what the GPUs of a job's attempts took.

    Raises:
        NotFound: there is no such job.
    """
    if await jobs.find_job(session, key) is None:
        raise NotFound(f"there is no job {key}")
    uses = await meters.uses_of(session, key)
    return JobMeters(job=key, uses=[UseItem.model_validate(each, from_attributes=True) for each in uses])


async def settle_uses(session: Session, now: datetime) -> int:
    """Charge jobs what their GPUs were measured to take, in place of estimates; return how many were settled."""
    due = await meters.unsettled(session, now - timedelta(seconds=SETTLE_AFTER_S), SETTLED_AT_ONCE)
    settled = 0
    for use in due:
        settled += await _settle(session, use, now)
    return settled


async def _settle(session: Session, use: Use, now: datetime) -> bool:
    ended_at = use.ended_at or now
    sources = await _sources(session, use)
    shared = [each for each in await meters.beside(session, use) if set(each.gpu_ids) & set(use.gpu_ids)]
    if shared:
        return _closed(use, now, f"job {shared[0].job} held the same GPU at the same time")
    if len(sources) < len(use.gpu_ids):
        late = (now - ended_at).total_seconds() > GIVE_UP_AFTER_S
        return _closed(use, now, "no exporter of the cluster tells of these GPUs") if late else False
    found = await meters.of_sources(session, use.cluster, sources, use.began_at - timedelta(minutes=1), ended_at)
    minutes = [(row["at_s"], _amount(row)) for row in found]
    made = metered(minutes, use.began_at.timestamp(), ended_at.timestamp(), len(sources))
    use.covered, use.busy = made.covered, made.busy
    if made.covered < ENOUGH_COVERED:
        late = (now - ended_at).total_seconds() > GIVE_UP_AFTER_S
        return _closed(use, now, f"only {made.covered:.0%} of its time was measured") if late else False
    job = await jobs.find_job(session, use.job, lock=True)
    if job is not None:
        job.energy_j = max(job.energy_j - use.estimate_j, 0.0) + made.energy_j
        # What its processors took is still an estimate where there was any.
        cluster = await jobs.find_cluster(session, use.cluster)
        job.energy_is_estimate = bool(cluster is None or cluster.watts * job.cpu_s)
    use.energy_j = made.energy_j
    return _closed(use, now, "")


async def _sources(session: Session, use: Use) -> list[str]:
    """Return by what exporters know the GPUs: their own ids, or numbers on the node."""
    places: dict[str, tuple[str, str]] = {}
    for exporter in await meters.list_exporters(session, use.cluster):
        places |= {source: (place[0], place[1]) for source, place in exporter.places.items()}
    short = use.node.partition(".")[0]
    found = []
    for wanted in use.gpu_ids:
        by_number = [
            source
            for source, (node, number) in places.items()
            if number == wanted and node.partition(".")[0] == short and short
        ]
        if wanted in places:
            found.append(wanted)
        elif len(by_number) == 1:
            found.append(by_number[0])
    return found


def _amount(row: Row) -> Amount:
    return Amount(
        covered_s=row["covered_s"], energy_j=row["energy_j"], busy_s=row["busy_s"], capacity_s=row["capacity_s"]
    )


def _closed(use: Use, now: datetime, note: str) -> bool:
    use.settled_at, use.note = now, note
    return True


async def tidy(session: Session, now: datetime, days: int) -> int:
    """Forget minutes that are too old; return how many went."""
    return await meters.forget(session, now - timedelta(days=days))
