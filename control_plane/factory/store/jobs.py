"""Rows of clusters and jobs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from control_plane.factory.models import Cluster, Job
from control_plane.kit.db import Row, Session, rows

LOOK_BACK = 100
UNFINISHED = ("queued", "running")


async def find_cluster(session: Session, name: str) -> Cluster | None:
    return await session.get(Cluster, name)


async def list_clusters(session: Session) -> Sequence[Cluster]:
    return (await session.scalars(select(Cluster).order_by(Cluster.name))).all()


async def put_cluster(session: Session, name: str, values: dict[str, Any]) -> None:
    statement = insert(Cluster).values(name=name, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def insert_job(session: Session, values: dict[str, Any]) -> bool:
    """Insert unless the key is taken; say whether it was new."""
    done = await session.execute(insert(Job).values(values).on_conflict_do_nothing().returning(Job.key))
    return done.first() is not None


async def find_job(session: Session, key: str, *, lock: bool = False) -> Job | None:
    query = select(Job).where(Job.key == key).execution_options(populate_existing=True)
    return await session.scalar(query.with_for_update() if lock else query)


async def lock_unfinished(session: Session, run_id: str) -> Sequence[Job]:
    """Return what a run asked for and is not over, in one order for everybody, so that nobody locks another out."""
    asked = or_(Job.run_id == run_id, Job.wanted_by.contains([run_id]))
    query = select(Job).where(asked, Job.state.in_(UNFINISHED)).order_by(Job.key).with_for_update()
    return (await session.scalars(query)).all()


async def list_jobs(
    session: Session, *, run_id: str | None, state: str | None, before: tuple[Any, ...] | None, limit: int
) -> Sequence[Job]:
    query = select(Job).order_by(Job.created_at.desc(), Job.key.desc()).limit(limit)
    if run_id is not None:
        query = query.where(Job.run_id == run_id)
    if state is not None:
        query = query.where(Job.state == state)
    if before is not None:
        at = select(Job.created_at).where(Job.key == before[0]).scalar_subquery()
        query = query.where(tuple_(Job.created_at, Job.key) < tuple_(at, before[0]))
    return (await session.scalars(query)).all()


async def busy(session: Session) -> dict[str, int]:
    """Count the jobs that wait or run, by cluster."""
    query = select(Job.cluster, func.count()).where(Job.state.in_(UNFINISHED)).group_by(Job.cluster)
    return {str(name): int(count) for name, count in (await session.execute(query)).all()}


async def took_s(session: Session, kind: str) -> dict[str, float]:
    """Return how long jobs of a kind took in one go, by cluster: the mean of the last hundred that are done there."""
    found = await rows(
        session,
        """select cluster.name, avg(last.wall_s) as mean_s from factory_cluster cluster, lateral (
               select wall_s from factory_job job
               where job.cluster = cluster.name and job.kind = :kind and job.state = 'done' and job.attempt = 1
               order by created_at desc limit :look_back) last
           group by cluster.name""",
        kind=kind,
        look_back=LOOK_BACK,
    )
    return {str(line["name"]): float(line["mean_s"]) for line in found}


async def ledger(session: Session, by: str, run_id: str | None) -> Sequence[Any]:
    column = {"kind": Job.kind, "run": Job.run_id, "cluster": Job.cluster, "subject": Job.subject}[by]
    query = (
        select(
            func.coalesce(column, "-").label("name"),
            func.count().label("jobs"),
            func.sum(Job.wall_s).label("wall_s"),
            func.sum(Job.cpu_s).label("cpu_s"),
            func.sum(Job.usd).label("usd"),
            func.sum(Job.energy_j).label("energy_j"),
            func.bool_or(Job.energy_is_estimate).label("energy_is_estimate"),
        )
        .group_by(column)
        .order_by(func.sum(Job.wall_s).desc())
    )
    if run_id is not None:
        query = query.where(Job.run_id == run_id)
    return (await session.execute(query)).all()


async def costs(
    session: Session, keys: Sequence[str], subjects: Sequence[str], runs: Sequence[str], kinds: Sequence[str]
) -> Sequence[Row]:
    """Return the costs of jobs by their keys, by their subjects, and of some kinds by their runs."""
    return await rows(
        session,
        """select key, kind, run_id, subject, usd, energy_j, energy_is_estimate, created_at as asked_at from factory_job
           where key = any(cast(:keys as text[])) or subject = any(cast(:subjects as text[]))
              or (run_id = any(cast(:runs as text[])) and kind = any(cast(:kinds as text[])))""",
        keys=list(keys),
        subjects=list(subjects),
        runs=list(runs),
        kinds=list(kinds),
    )


async def readers(session: Session, made: Sequence[str], read_by: Sequence[str]) -> Sequence[Row]:
    """Return (key, subject): jobs on `made` of which a job on the subject, one of `read_by`, read a file."""
    return await rows(
        session,
        """select distinct m.key, r.subject
           from factory_job r cross join lateral jsonb_each(r.spec -> 'inputs') as took (path, file)
           join (select j.key, gave.file ->> 'sha256' as sha256
                 from factory_job j cross join lateral jsonb_each(
                     case when jsonb_typeof(j.outputs) = 'object' then j.outputs else '{}' end) as gave (path, file)
                 where j.subject = any(cast(:made as text[]))) m on m.sha256 = took.file ->> 'sha256'
           where r.subject = any(cast(:read_by as text[])) order by 1, 2""",
        made=list(made),
        read_by=list(read_by),
    )


async def spent(session: Session, but: Sequence[str]) -> Sequence[Row]:
    """Return what all jobs cost but those with some keys, by kind, the dearest first."""
    return await rows(
        session,
        """select kind, count(*) as jobs, sum(usd) as usd, sum(energy_j) as energy_j,
                  bool_or(energy_is_estimate) as energy_is_estimate
           from factory_job where key <> all(cast(:but as text[])) group by kind order by sum(usd) desc, kind""",
        but=list(but),
    )
