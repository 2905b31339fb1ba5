"""Rows of exporters, of what they said by the minute, and of the GPUs that attempts held."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from control_plane.factory.models import Exporter, Meter, Use
from control_plane.kit.db import Row, Session, execute, rows
from control_plane.kit.ids import new_id
from control_plane.kit.metrics import Family, Measured, measure

JOBS = Family("fleetloop_jobs", "Jobs by state.", ("cluster", "state"))
QUEUE_OLDEST = Family(
    "fleetloop_jobs_queue_oldest_seconds", "Age of the oldest job that nobody runs yet.", ("cluster",)
)
QUEUE = Family("fleetloop_jobs_queue_seconds", "Mean wait of the jobs that began within the last hour.", ("cluster",))
WALL = Family("fleetloop_jobs_wall_seconds", "Wall time of all jobs so far.", ("cluster", "kind"))
ENERGY = Family("fleetloop_jobs_energy_joules", "Energy of all jobs so far, estimates included.", ("cluster", "kind"))
COST = Family("fleetloop_jobs_cost_dollars", "Price of all jobs so far, by the clusters' rates.", ("cluster", "kind"))
SILENT = Family(
    "fleetloop_exporter_silent_seconds",
    "Since when an exporter of a cluster has not answered.",
    ("cluster", "exporter"),
)
AMOUNTS = ("covered_s", "energy_j", "busy_s", "capacity_s", "tokens_out", "tokens_in", "requests", "queue_s")


MEASURES = (
    (JOBS, "select cluster, state, count(*) as value from factory_job group by cluster, state"),
    (
        QUEUE_OLDEST,
        """select cluster, extract(epoch from now() - min(created_at)) as value
           from factory_job where state = 'queued' group by cluster""",
    ),
    (
        QUEUE,
        """select cluster, extract(epoch from avg(started_at - created_at)) as value
           from factory_job where started_at > now() - interval '1 hour' group by cluster""",
    ),
    (WALL, "select cluster, kind, sum(wall_s) as value from factory_job group by cluster, kind"),
    (ENERGY, "select cluster, kind, sum(energy_j) as value from factory_job group by cluster, kind"),
    (COST, "select cluster, kind, sum(usd) as value from factory_job group by cluster, kind"),
    (
        SILENT,
        """select cluster, regexp_replace(url, '^https?://([^/?]*).*$', '\\1') as exporter,
                  max(extract(epoch from now() - coalesce(answered_at, created_at))) as value
           from factory_exporter group by 1, 2""",
    ),
)


async def measures(session: Session) -> list[Measured]:
    return [await measure(session, family, statement) for family, statement in MEASURES]


async def put_exporters(session: Session, cluster: str, wanted: Mapping[str, str]) -> None:
    """Make a cluster's exporters those of `wanted`, kind by URL; one that stays goes on counting where it was."""
    held = {each.url: each for each in await list_exporters(session, cluster)}
    gone = [each.id for url, each in held.items() if wanted.get(url) != each.kind]
    await session.execute(delete(Exporter).where(Exporter.id.in_(gone)))
    new = [url for url, kind in wanted.items() if url not in held or held[url].kind != kind]
    session.add_all(Exporter(id=new_id("exp"), cluster=cluster, kind=wanted[url], url=url) for url in new)
    await session.flush()


async def list_exporters(session: Session, cluster: str | None = None) -> Sequence[Exporter]:
    query = select(Exporter).order_by(Exporter.cluster, Exporter.id)
    return (await session.scalars(query if cluster is None else query.where(Exporter.cluster == cluster))).all()


async def claim(session: Session, limit: int, every_s: float) -> Sequence[Row]:
    """Claim exporters that are due: (id, kind, url). The claim is also what makes them due the next time."""
    return await rows(
        session,
        """update factory_exporter set next_at = now() + :every * interval '1 second'
           where id in (select id from factory_exporter where next_at <= now()
                        order by next_at limit :limit for update skip locked)
           returning id, kind, url""",
        limit=limit,
        every=every_s,
    )


async def lock_exporter(session: Session, exporter: str) -> Exporter | None:
    return await session.scalar(select(Exporter).where(Exporter.id == exporter).with_for_update())


async def minutes(session: Session, exporter: str, instants: Collection[datetime]) -> Sequence[Meter]:
    query = select(Meter).where(Meter.exporter == exporter, Meter.at.in_(instants))
    return (await session.scalars(query)).all()


async def write_minutes(session: Session, values: Sequence[dict[str, Any]]) -> None:
    """Write whole rows; what was there of the same minute and source is replaced."""
    if not values:
        return
    statement = insert(Meter)
    changed = {name: statement.excluded[name] for name in ("tries", "answers", "histograms", *AMOUNTS)}
    await session.execute(
        statement.on_conflict_do_update(index_elements=["exporter", "at", "source"], set_=changed), list(values)
    )


async def lines(session: Session, cluster: str, start: datetime, end: datetime, step_s: int) -> Sequence[Row]:
    """Return what each source did in each step; a step is as many seconds since 1970 divided by `step_s`."""
    sums = ", ".join(f"sum({name}) as {name}" for name in AMOUNTS)
    return await rows(
        session,
        f"""select e.kind, m.exporter, m.source, floor(extract(epoch from m.at) / :step)::bigint as step,
                   sum(tries) as tries, sum(answers) as answers, {sums}
            from factory_meter m join factory_exporter e on e.id = m.exporter
            where e.cluster = :cluster and m.at >= :start and m.at < :end group by 1, 2, 3, 4""",  # noqa: S608 - names
        cluster=cluster,
        start=start,
        end=end,
        step=step_s,
    )


async def histograms(session: Session, cluster: str, start: datetime, end: datetime, step_s: int) -> Sequence[Row]:
    return await rows(
        session,
        """select m.exporter, floor(extract(epoch from m.at) / :step)::bigint as step, m.histograms
           from factory_meter m join factory_exporter e on e.id = m.exporter
           where e.cluster = :cluster and m.at >= :start and m.at < :end and m.histograms is not null""",
        cluster=cluster,
        start=start,
        end=end,
        step=step_s,
    )


async def of_sources(
    session: Session, cluster: str, sources: Collection[str], start: datetime, end: datetime
) -> Sequence[Row]:
    """Return minutes of some GPUs; of one of which two exporters tell, what the more believed one said."""
    return await rows(
        session,
        """select distinct on (m.source, m.at) m.source, extract(epoch from m.at)::float as at_s, m.covered_s,
                  m.energy_j, m.busy_s, m.capacity_s
           from factory_meter m join factory_exporter e on e.id = m.exporter
           where e.cluster = :cluster and m.source = any(cast(:sources as text[])) and m.at >= :start and m.at < :end
             and m.energy_j is not null
           order by m.source, m.at, e.kind = 'dcgm' desc, e.id""",
        cluster=cluster,
        sources=list(sources),
        start=start,
        end=end,
    )


async def forget(session: Session, before: datetime, limit: int = 50_000) -> int:
    return await execute(
        session,
        """delete from factory_meter where (exporter, at, source) in (
               select exporter, at, source from factory_meter where at < :before limit :limit)""",
        before=before,
        limit=limit,
    )


async def begin_use(session: Session, values: dict[str, Any]) -> None:
    """Note what an attempt holds; an earlier attempt of the job that never said its end ends here."""
    open_ones = "update factory_use set ended_at = :at where job = :job and ended_at is null"
    await execute(session, open_ones, at=values["began_at"], job=values["job"])
    await session.execute(insert(Use).values(values).on_conflict_do_nothing())


async def end_use(session: Session, job: str, asked: int, attempt: int, at: datetime, estimate_j: float) -> None:
    await execute(
        session,
        """update factory_use set ended_at = :at, estimate_j = :estimate
           where job = :job and asked = :asked and attempt = :attempt and ended_at is null""",
        at=at,
        estimate=estimate_j,
        job=job,
        asked=asked,
        attempt=attempt,
    )


async def unsettled(session: Session, before: datetime, limit: int) -> Sequence[Use]:
    query = select(Use).where(Use.settled_at.is_(None), Use.ended_at < before).order_by(Use.ended_at).limit(limit)
    return (await session.scalars(query.with_for_update(skip_locked=True))).all()


async def beside(session: Session, use: Use) -> Sequence[Use]:
    """Return other attempts on the cluster that held GPUs of the same node while this one did."""
    query = select(Use).where(Use.cluster == use.cluster, Use.node == use.node, Use.began_at < use.ended_at)
    found = await session.scalars(query.where((Use.ended_at.is_(None)) | (Use.ended_at > use.began_at)))
    mine = (use.job, use.asked, use.attempt)
    return [each for each in found.all() if (each.job, each.asked, each.attempt) != mine]


async def uses_of(session: Session, job: str) -> Sequence[Use]:
    query = select(Use).where(Use.job == job).order_by(Use.asked, Use.attempt)
    return (await session.scalars(query)).all()
