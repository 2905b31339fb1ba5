"""Rows of rollouts, decisions, deployments and baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Database, Row, Session, execute, rows
from control_plane.kit.metrics import Family, Measured, measure
from control_plane.rollout.domain import ENDS
from control_plane.rollout.models import Baseline, Deployment, RolloutDecision, RolloutRow

PHASES = Family("fleetloop_rollouts", "Rollouts by phase.", ("phase",))


async def measures(session: Session) -> list[Measured]:
    return [await measure(session, PHASES, "select phase, count(*) as value from rollout group by phase")]


async def claim(session: Session, rollout_id: str) -> RolloutRow | None:
    query = select(RolloutRow).where(RolloutRow.id == rollout_id).with_for_update(skip_locked=True)
    return await session.scalar(query.execution_options(populate_existing=True))


async def unfinished(session: Session) -> Sequence[str]:
    query = select(RolloutRow.id).where(RolloutRow.phase.not_in([phase.value for phase in ENDS]))
    return (await session.scalars(query.order_by(RolloutRow.id))).all()


async def find(session: Session, rollout_id: str, *, lock: bool = False) -> RolloutRow | None:
    query = select(RolloutRow).where(RolloutRow.id == rollout_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def list_rollouts(session: Session, *, before: str | None, limit: int) -> Sequence[RolloutRow]:
    query = select(RolloutRow).order_by(RolloutRow.id.desc()).limit(limit)
    return (await session.scalars(query if before is None else query.where(RolloutRow.id < before))).all()


async def offering(session: Session) -> Sequence[RolloutRow]:
    """Return rollouts that devices are still told of: those that offer their release, and those taken back."""
    told = RolloutRow.offering | (RolloutRow.phase == "halting")
    query = select(RolloutRow).where(told).order_by(RolloutRow.counter.desc())
    return (await session.scalars(query)).all()


async def lock_plans(session: Session) -> None:
    """One rollout is made at a time, so that two asked for at once do not both find their devices free."""
    await execute(session, "select pg_advisory_xact_lock(72004)")


async def live_for(
    session: Session, device_classes: Sequence[str], sites: Sequence[str] | None
) -> Sequence[RolloutRow]:
    """Return rollouts that have not ended and may meet on a device with one to these classes and sites."""
    query = select(RolloutRow).where(RolloutRow.phase.not_in([phase.value for phase in ENDS])).order_by(RolloutRow.id)
    return [
        row
        for row in (await session.scalars(query)).all()
        if set(row.device_classes) & set(device_classes)
        and (sites is None or row.sites is None or set(row.sites) & set(sites))
    ]


async def baselines(session: Session) -> Sequence[Baseline]:
    return (await session.scalars(select(Baseline).order_by(Baseline.device_class, Baseline.site))).all()


async def put_baseline(
    session: Session, device_class: str, values: dict[str, Any], sites: Sequence[str] | None = None
) -> None:
    """Set what a class runs at some sites, or everywhere, whatever single sites had."""
    if sites is None:
        await session.execute(delete(Baseline).where(Baseline.device_class == device_class, Baseline.site != ""))
    for site in [""] if sites is None else sites:
        statement = insert(Baseline).values(device_class=device_class, site=site, **values)
        await session.execute(statement.on_conflict_do_update(index_elements=["device_class", "site"], set_=values))


async def insert_decision(
    session: Session, row: RolloutRow, at: datetime, figures: dict[str, Any], evidence: dict[str, Any]
) -> None:
    made = RolloutDecision(
        rollout_id=row.id, at=at, phase=row.phase, stage=row.stage, because=row.because, figures=figures
    )
    made.evidence = evidence
    session.add(made)
    await session.flush()


async def last_decision(session: Session, rollout_id: str) -> Row | None:
    found = await rows(
        session,
        """select at, because, figures from rollout_decision where rollout_id = :id order by number desc limit 1""",
        id=rollout_id,
    )
    return found[0] if found else None


async def evidence(session: Session, rollout_id: str) -> Sequence[Row]:
    """Return (number, evidence) of every decision that was kept, oldest first."""
    return await rows(
        session,
        "select number, evidence from rollout_decision where rollout_id = :id and evidence <> '{}' order by number",
        id=rollout_id,
    )


async def decisions(session: Session, rollout_id: str, limit: int) -> Sequence[RolloutDecision]:
    query = select(RolloutDecision).where(RolloutDecision.rollout_id == rollout_id)
    newest = (await session.scalars(query.order_by(RolloutDecision.number.desc()).limit(limit))).all()
    return list(reversed(newest))


async def put_deployment(session: Session, values: dict[str, Any]) -> None:
    statement = insert(Deployment).values(values)
    changed = {key: value for key, value in values.items() if key not in {"rollout_id", "device_id", "offered_at"}}
    await session.execute(statement.on_conflict_do_update(index_elements=["rollout_id", "device_id"], set_=changed))


async def newest_deployment(session: Session, device_id: str) -> tuple[Deployment, str] | None:
    """Return a device's newest deployment and the content that its rollout brings."""
    query = (
        select(Deployment, RolloutRow.content_digest)
        .join(RolloutRow, RolloutRow.id == Deployment.rollout_id)
        .where(Deployment.device_id == device_id)
        .order_by(Deployment.rollout_id.desc())
        .limit(1)
    )
    found = (await session.execute(query)).first()
    return (found[0], found[1]) if found else None


async def left_deployments(
    session: Session, device_id: str, rollout_id: str, active: str | None
) -> Sequence[Deployment]:
    """Return a device's deployments in other live rollouts whose content it does not run (any more)."""
    query = (
        select(Deployment)
        .join(RolloutRow, RolloutRow.id == Deployment.rollout_id)
        .where(
            Deployment.device_id == device_id,
            Deployment.rollout_id != rollout_id,
            RolloutRow.phase.not_in([phase.value for phase in ENDS]),
            RolloutRow.content_digest.is_distinct_from(active),
        )
    )
    return (await session.scalars(query)).all()


async def touch_seen(database: Database, devices: Sequence[tuple[str, str | None]]) -> None:
    """Say that devices were heard: (device, the rollout it is offered, or None for its newest)."""
    await database.fetch(
        """update rollout_deployment d set seen_at = now()
           from unnest($1::text[], $2::text[]) as n(device, rollout)
           where d.device_id = n.device and d.rollout_id = coalesce(n.rollout,
               (select max(newest.rollout_id) from rollout_deployment newest where newest.device_id = n.device))""",
        [device for device, _ in devices],
        [rollout for _, rollout in devices],
    )


async def retrying(session: Session, rollout_id: str, device_id: str) -> tuple[tuple[str, ...], int, int, str]:
    """Return which refusals a rollout lets devices get over, how often, and how often this one refused; its phase."""
    found = await rows(
        session,
        """select r.plan, coalesce(d.attempts, 0) as attempts, coalesce(d.phase, 'offered') as phase
           from rollout r left join rollout_deployment d on d.rollout_id = r.id and d.device_id = :device
           where r.id = :id""",
        id=rollout_id,
        device=device_id,
    )
    plan = found[0]["plan"]
    return tuple(plan.get("retry_causes", ())), plan.get("retries", 0), found[0]["attempts"], found[0]["phase"]


async def find_deployment(session: Session, rollout_id: str, device_id: str) -> Deployment | None:
    return await session.get(Deployment, (rollout_id, device_id))


async def reaching(session: Session, device_class: str, site: str) -> Sequence[RolloutRow]:
    """Return rollouts that have not ended and may reach a device of this class and site."""
    return [row for row in await live_for(session, [device_class], [site]) if row.started_at is not None]


async def deployments(
    session: Session, rollout_id: str, standing: str | None, after: str, limit: int
) -> Sequence[Deployment]:
    query = select(Deployment).where(Deployment.rollout_id == rollout_id, Deployment.device_id > after)
    if standing is not None:
        query = query.where(Deployment.standing == standing)
    return (await session.scalars(query.order_by(Deployment.device_id).limit(limit))).all()


async def device_history(session: Session, device_id: str, limit: int) -> Sequence[tuple[Deployment, str]]:
    """Return a device's newest deployments, each with the content that its rollout brings."""
    query = (
        select(Deployment, RolloutRow.content_digest)
        .join(RolloutRow, RolloutRow.id == Deployment.rollout_id)
        .where(Deployment.device_id == device_id)
        .order_by(Deployment.rollout_id.desc())
    )
    return [(row[0], row[1]) for row in (await session.execute(query.limit(limit))).all()]


@dataclass(frozen=True, slots=True)
class Room:
    """Where a device stands, and how many may be out there at once; None: as many as like."""

    site: str
    site_budget: int | None
    cell: str | None
    cell_budget: int | None


async def grant_site(session: Session, rollout_id: str, device_id: str, room: Room, grant_s: float) -> bool:
    """Grant one device its turn, or renew it, while fewer than allowed of its site and cell are out or about to be."""
    # One at a time for a site: two that are ready at once must not both take the last place.
    await execute(session, "select pg_advisory_xact_lock(hashtextextended(:key, 0))", key=f"{rollout_id}|{room.site}")
    granted = await rows(
        session,
        """
        with others as (
            select cell from rollout_deployment o
            where o.rollout_id = :id and o.site = :site and o.device_id <> :device
              and (o.phase = 'trial' or (o.phase = 'armed' and o.site_granted_until > now())))
        update rollout_deployment
        set site_granted_until = now() + cast(:grant_s as float8) * interval '1 second', cell = :cell
        where rollout_id = :id and device_id = :device
          and coalesce(cast(:site_budget as int) > (select count(*) from others), true)
          and (cast(:cell as text) is null
               or coalesce(cast(:cell_budget as int) > (select count(*) from others where cell = :cell), true))
        returning device_id""",
        id=rollout_id,
        device=device_id,
        site=room.site,
        site_budget=room.site_budget,
        cell=room.cell,
        cell_budget=room.cell_budget,
        grant_s=grant_s,
    )
    return bool(granted)


async def tally(session: Session, rollout_id: str) -> dict[str, int]:
    """Return how many devices stand how; it costs the number of strata."""
    found = await rows(
        session,
        "select standing, sum(devices)::bigint as devices from rollout_tally where rollout_id = :id group by standing",
        id=rollout_id,
    )
    return {line["standing"]: line["devices"] for line in found}


async def tally_by_stratum(session: Session, rollout_id: str) -> Sequence[Row]:
    query = """select site, device_class, standing, devices from rollout_tally where rollout_id = :id and devices > 0
               order by site, device_class, standing"""
    return await rows(session, query, id=rollout_id)


async def in_standing(session: Session, rollout_id: str, standings: Sequence[str]) -> list[str]:
    found = await rows(
        session,
        """select device_id from rollout_deployment where rollout_id = :id and standing = any(:standings)
           order by device_id""",
        id=rollout_id,
        standings=list(standings),
    )
    return [line["device_id"] for line in found]


async def next_waiting(session: Session, rollout_id: str, most: int) -> Sequence[Row]:
    """Return devices that have not settled, those looked at longest ago first, and say that they were looked at."""
    return await rows(
        session,
        """update rollout_deployment d set looked_at = now() where rollout_id = :id and device_id in (
               select device_id from rollout_deployment where rollout_id = :id
               and standing in ('offered', 'working', 'retrying', 'silent') and looked_at < now() - interval '5 seconds'
               order by looked_at limit :most)
           returning device_id, standing""",
        id=rollout_id,
        most=most,
    )


async def stand(session: Session, rollout_id: str, devices: Sequence[str], standing: str) -> None:
    if devices:
        await execute(
            session,
            """update rollout_deployment set standing = :standing
               where rollout_id = :id and device_id = any(:devices)""",
            id=rollout_id,
            devices=list(devices),
            standing=standing,
        )


async def quarantined(session: Session) -> Sequence[str]:
    found = await rows(session, "select distinct device_id from rollout_deployment where standing = 'quarantined'")
    return [line["device_id"] for line in found]


async def promotions(session: Session, contents: Sequence[str]) -> Sequence[RolloutRow]:
    """Return the rollouts by which contents became what devices run, oldest first."""
    query = select(RolloutRow).where(RolloutRow.phase == "done", RolloutRow.content_digest.in_(contents))
    return (await session.scalars(query.order_by(RolloutRow.finished_at, RolloutRow.id))).all()


async def halted(session: Session, content: str) -> Sequence[Row]:
    """Return (id, release, at, because) of rollouts of a content that had begun and were halted, the newest first."""
    return await rows(
        session,
        """select r.id, r.release, d.at, d.because from rollout r
           cross join lateral (select at, because from rollout_decision where rollout_id = r.id and phase = 'halting'
                               order by number limit 1) d
           where r.content_digest = :content and r.phase in ('halting', 'halted') and r.started_at is not null
           order by r.id desc limit 5""",
        content=content,
    )


async def taken_back(session: Session, release: str) -> str | None:
    """Return the rollout that a release is the way back from, if it is one."""
    found = await session.scalar(select(RolloutRow.id).where(RolloutRow.restore_release == release).limit(1))
    return str(found) if found else None
