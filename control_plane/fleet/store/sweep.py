"""Who has fallen silent or is heard again, slice by slice; and the folding of counts."""

from datetime import datetime

from control_plane.kit.db import Row, Session, execute, row

UNFOLDED_MOST = 1000
_LOCK = 72_060


async def alone(session: Session) -> bool:
    """Say whether no other process sweeps just now; if so, none does until this transaction ends."""
    found = await row(session, "select pg_try_advisory_xact_lock(:key) as mine", key=_LOCK)
    return bool(found and found["mine"])


async def sweep(session: Session, after: str, limit: int, cutoff: datetime) -> Row | None:
    """Look at the next devices by id; return the last of them, how many they were, and how many changed.

    A row that somebody else writes just now is left for the next time: nobody waits for the sweep, nor it for anybody.
    """
    return await row(
        session,
        """with slice as materialized (
               select id, state, deployment, coalesce(last_seen_at, enrolled_at) < :cutoff as silent
               from fleet_device where id > :after order by id limit :most),
           held as materialized (
               select l.device_id, s.state, s.deployment, s.silent
               from slice s join fleet_listing l on l.device_id = s.id
               where s.state = 'active' and (l.health = 'silent') <> s.silent for update of l skip locked),
           changed as (
               update fleet_listing l set
                   health = case when h.silent then 'silent' else fleet_health(h.state, h.deployment) end,
                   waiting = case when h.silent then '' else fleet_waiting(h.state, h.deployment) end
               from held h where l.device_id = h.device_id returning 1)
           select (select max(id) from slice) as last, (select count(*) from slice) as looked,
               (select count(*) from changed) as changed""",
        after=after,
        most=limit,
        cutoff=cutoff,
    )


async def fold(session: Session) -> bool:
    """Make one row of each cell's differences, if there are many; what comes meanwhile is left for the next time."""
    found = await row(
        session,
        """select count(*) - count(distinct (site, device_class, content, health, waiting)) as more from fleet_facet""",
    )
    if found is None or found["more"] < UNFOLDED_MOST:
        return False
    await execute(
        session,
        """with gone as (delete from fleet_facet returning *)
           insert into fleet_facet (site, device_class, content, health, waiting, devices)
           select site, device_class, content, health, waiting, sum(devices) from gone
           group by 1, 2, 3, 4, 5 having sum(devices) <> 0""",
    )
    return True
