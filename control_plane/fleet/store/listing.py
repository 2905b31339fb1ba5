"""Devices filtered, sorted, paged and counted, at a cost that hardly grows with the fleet.

Pages come from `fleet_listing`, narrow rows with an index for each column that is filtered or sorted by. Counts come
from `fleet_facet`, which has as many rows as there are combinations. Only a search must count devices, and it stops.
"""

from collections.abc import Collection, Sequence
from typing import Any

from control_plane.fleet.domain import Facet, Filter, Order, Place
from control_plane.kit.db import Row, Session, row, rows
from control_plane.kit.metrics import Family, Measured, measure

COUNTED_MOST = 10_000
"""How many devices a search counts."""
FEW_MOST = 20_000
"""Up to how many it is quick to find all and sort them."""
FACET_MOST = 60
_COLUMNS = "device_id, serial, site, device_class, content, health, waiting"
_FACETS = ", ".join(facet.value for facet in Facet)
_SAME = 'd.id = found.device_id collate "default"'
"""The listing compares byte by byte and the device's row does not: its index is found only with its own order."""
_SHOWN = """d.state, d.active_counter, d.last_seen_at, d.enrolled_at, d.agent_version,
    d.deployment ->> 'phase' as phase, d.deployment ->> 'reason' as reason,
    left(d.deployment ->> 'detail', 500) as detail"""


def where(wanted: Filter, *, counts: bool = False) -> tuple[str, dict[str, Any]]:
    """Return a condition and its values; of counts there is no telling serials."""
    parts, values = ["true"], dict[str, Any]()
    for facet, value in wanted.facets.items():
        parts.append(f"{facet.value} = :{facet.value}")
        values[facet.value] = value
    if wanted.facets.get(Facet.WAITING):
        parts.append("waiting <> ''")  # so that its index, which has no others, may be used
    if wanted.search and not counts:
        low, high = wanted.search, wanted.search + chr(0x10FFFF)
        column = "device_id" if wanted.by_id else "serial"
        parts.append(f"{column} >= :low and {column} < :high")
        values |= {"low": low, "high": high}
    if wanted.ids is not None and not counts:
        parts.append("device_id = any(cast(:ids as text[]))")
        values["ids"] = list(wanted.ids)
    return " and ".join(parts), values


DEVICES = Family("fleetloop_devices", "Devices by site, class and health.", ("site", "device_class", "health"))
WAITED_FOR = Family("fleetloop_devices_waiting", "Devices that wait for something, by what.", ("waiting",))


async def measures(session: Session) -> list[Measured]:
    by = "site, device_class, health"
    devices = f"select {by}, sum(devices) as value from fleet_facet group by {by} having sum(devices) > 0"
    waiting = "select waiting, sum(devices) as value from fleet_facet where waiting <> '' group by waiting"
    return [
        await measure(session, DEVICES, devices),
        await measure(session, WAITED_FOR, f"{waiting} having sum(devices) > 0"),
    ]


async def plan_each(session: Session) -> None:
    """Have each statement of this transaction planned for its own values: a rare one wants another way than others."""
    await row(
        session, "select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)"
    )


async def any_serial(session: Session, start: str) -> bool:
    """Say whether a serial begins so."""
    condition, values = where(Filter(start))
    return await row(session, f"select 1 from fleet_listing where {condition} limit 1", **values) is not None


async def page(
    session: Session, wanted: Filter, order: Order, *, down: bool, place: Place | None, few: bool, limit: int
) -> Sequence[Row]:
    """Return rows after a place, `down` from the greatest; `few`: find all that are wanted, then sort."""
    condition, values = where(wanted)
    way, sign = ("desc", "<") if down else ("asc", ">")
    keys = ["serial"] if order is Order.SERIAL else [order.value, "serial"]
    sorting = ", ".join(f"{key} {way}" for key in keys)
    after = ""
    if place is not None:
        values |= {"at_value": place.value, "at_serial": place.serial}
        after = (
            f"and serial {sign} :at_serial"
            if len(keys) == 1
            else f"and ({', '.join(keys)}) {sign} (:at_value, :at_serial)"
        )
    source = f"(select {_COLUMNS} from fleet_listing where {condition}{' offset 0' if few else ''}) as wanted"
    return await rows(
        session,
        f"""select found.*, {_SHOWN} from (select {_COLUMNS} from {source} where true {after}
            order by {sorting} limit :most) as found join fleet_device d on {_SAME}
            order by {sorting}""",
        most=limit,
        **values,
    )


async def total(session: Session, wanted: Filter) -> int:
    """Return how many devices have these facets, whatever is searched for."""
    condition, values = where(wanted, counts=True)
    found = await row(session, f"select coalesce(sum(devices), 0) as n from fleet_facet where {condition}", **values)
    return int(found["n"]) if found else 0


async def values(
    session: Session, wanted: Filter, order: Order, *, down: bool, start: str | None, limit: int
) -> Sequence[Row]:
    """Return (value, devices): what an order's column holds in the devices that are wanted, from `start` on."""
    condition, given = where(wanted, counts=True)
    way, sign = ("desc", "<=") if down else ("asc", ">=")
    begun = f" and {order.value} {sign} :start" if start is not None else ""
    return await rows(
        session,
        f"""select {order.value} as value, sum(devices) as devices from fleet_facet where {condition}{begun}
            group by {order.value} having sum(devices) > 0 order by {order.value} {way} limit :most""",
        most=limit,
        **given,
        **({"start": start} if start is not None else {}),
    )


async def facets(session: Session, wanted: Filter) -> Sequence[Row]:
    """Return (facet, value, devices): the greatest of each facet, with the other facets' filters applied.

    The line of facet "" says how many there are with all of them.
    """
    condition, values = where(wanted, counts=True)
    parts = [f"(select '' as facet, '' as value, coalesce(sum(n), 0) as devices from cells where {condition})"]
    for facet in Facet:
        condition, _ = where(wanted.without(facet), counts=True)
        parts.append(_grouped(facet, f"cells where {condition}", "sum(n)"))
    cells = f"select {_FACETS}, sum(devices) as n from fleet_facet group by {_FACETS}"
    return await rows(session, f"with cells as materialized ({cells}) {' union all '.join(parts)}", **values)


async def facets_of_search(session: Session, wanted: Filter) -> Sequence[Row]:
    """Return the same of at most `COUNTED_MOST` devices that a search finds, all filters applied; one more is told."""
    condition, values = where(wanted)
    found = f"select {_COLUMNS} from fleet_listing where {condition} limit :most"
    parts = ["(select '' as facet, '' as value, count(*) as devices from found)"]
    parts += [_grouped(facet, "found where true", "count(*)") for facet in Facet]
    return await rows(
        session, f"with found as materialized ({found}) {' union all '.join(parts)}", most=COUNTED_MOST + 1, **values
    )


def _grouped(facet: Facet, source: str, amount: str) -> str:
    return (
        f"(select '{facet.value}' as facet, {facet.value} as value, {amount} as devices from {source} "
        f"group by {facet.value} having {amount} > 0 order by devices desc, value limit {FACET_MOST})"
    )


async def ids(session: Session, wanted: Filter, limit: int) -> Sequence[Row]:
    """Return (device_id, serial, state) in the order of ids."""
    condition, values = where(wanted)
    return await rows(
        session,
        f"""select device_id, found.serial, found.site, d.state
            from (select device_id, serial, site from fleet_listing where {condition}
                  order by device_id limit :most) as found
            join fleet_device d on {_SAME} order by device_id""",
        most=limit,
        **values,
    )


async def plan(session: Session, wanted: Filter, troubles: Sequence[str], sites: int) -> Sequence[Row]:
    """Return (site, device_class, content, health, devices) of those sites that have most trouble.

    The line without a site says how many devices there are at all, and (as its content) at how many sites.
    """
    condition, values = where(wanted, counts=True)
    return await rows(
        session,
        f"""with cells as materialized (
                select site, device_class, content, health, sum(devices) as n from fleet_facet where {condition}
                group by site, device_class, content, health having sum(devices) > 0),
            shown as (
                select site from cells group by site
                order by sum(n) filter (where health = any(cast(:troubles as text[]))) desc nulls last, sum(n) desc,
                    site limit :sites)
            select null as site, '' as device_class, count(distinct site)::text as content, '' as health,
                coalesce(sum(n), 0)::bigint as devices from cells
            union all (select site, device_class, content, health, n::bigint from cells
                where site in (select site from shown) order by site, device_class, content, health)""",
        troubles=list(troubles),
        sites=sites,
        **values,
    )


async def running(
    session: Session, content: str, device_classes: Sequence[str], sites: Sequence[str] | None, out: Sequence[str]
) -> int:
    """Count devices of a selection that run a content, without those of some healths."""
    found = await row(
        session,
        """select coalesce(sum(devices), 0) as n from fleet_facet
           where content = :content and device_class = any(cast(:classes as text[]))
             and health <> all(cast(:out as text[]))
             and (cast(:sites as text[]) is null or site = any(cast(:sites as text[])))""",
        content=content,
        classes=list(device_classes),
        sites=None if sites is None else list(sites),
        out=list(out),
    )
    return int(found["n"]) if found else 0


async def floors_above(
    session: Session, counter: int, device_classes: Sequence[str], sites: Sequence[str] | None
) -> int:
    """Count active devices of a selection that take no counter as low as this one; one more than the most is told."""
    # Named only where it is asked for: a condition that may be none keeps the index from being used.
    place = "" if sites is None else "and site = any(cast(:sites as text[]))"
    found = await row(
        session,
        f"""select count(*) as n from (
               select 1 from fleet_device where state = 'active' and counter_floor > :counter
                  and device_class = any(cast(:classes as text[])) {place} limit :most) as above""",
        counter=counter,
        classes=list(device_classes),
        most=COUNTED_MOST + 1,
        **({} if sites is None else {"sites": list(sites)}),
    )
    return int(found["n"]) if found else 0


async def serials(session: Session, device_ids: Collection[str]) -> dict[str, str]:
    query = "select id, serial from fleet_device where id = any(cast(:ids as text[]))"
    return {found["id"]: found["serial"] for found in await rows(session, query, ids=list(device_ids))}


async def summary(session: Session) -> Sequence[Row]:
    query = """select device_class, site, nullif(content, '') as active_content, sum(devices)::bigint as devices
        from fleet_facet group by 1, 2, 3 having sum(devices) > 0 order by 1, 2, 3"""
    return await rows(session, query)
