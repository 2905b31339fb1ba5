"""Lists of a large fleet: filtered, sorted, paged both ways, and counted by facet."""

from collections.abc import Sequence
from dataclasses import replace

from control_plane.fleet.domain import TROUBLES, Facet, Filter, Order, Place, Plan, PlanCell
from control_plane.fleet.schemas import FacetCount, FleetCounts, ListedDevice, ListPage
from control_plane.fleet.store import listing as store
from control_plane.kit.db import Row, Session
from control_plane.kit.pages import decode_cursor, encode_cursor


async def list_fleet(
    session: Session,
    wanted: Filter,
    order: Order = Order.SERIAL,
    *,
    falling: bool = False,
    after: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> ListPage:
    """List the page after a cursor, or the one before it."""
    place = decode_cursor(before or after, str, str)
    backwards = before is not None
    await store.plan_each(session)
    found = await _found(
        session,
        await settled(session, wanted),
        order,
        down=falling != backwards,
        place=Place(*place) if place else None,
        limit=limit + 1,
    )
    items = [ListedDevice.model_validate(dict(line)) for line in found[:limit]]
    return _page(items[::-1] if backwards else items, order, place is not None, len(found) > limit, backwards=backwards)


async def settled(session: Session, wanted: Filter) -> Filter:
    """Say of a search whether it is by serial or by id; both at once could follow no index."""
    if not wanted.search or await store.any_serial(session, wanted.search):
        return wanted
    return replace(wanted, by_id=True)


async def _found(
    session: Session, wanted: Filter, order: Order, *, down: bool, place: Place | None, limit: int
) -> Sequence[Row]:
    """Find a page in one of three ways, so that none of them looks at many devices in vain.

    Few are all found and sorted. Else an order's index is walked along until a page is full; but where the order is by
    site, class, version or health, and a filter by another of them, most of a long walk could be in vain, for a version
    is often one class's only. So we go from value to value, those that the counts say have any of them.
    """
    few = await store.total(session, wanted) <= store.FEW_MOST
    if few or wanted.search or order is Order.SERIAL or not wanted.facets:
        return await store.page(session, wanted, order, down=down, place=place, few=few, limit=limit)
    found: list[Row] = []
    start = place.value if place else None
    for line in await store.values(session, wanted, order, down=down, start=start, limit=limit + 1):
        value, devices = str(line["value"]), int(line["devices"])
        found += await store.page(
            session,
            wanted.with_facet(Facet(order.value), value),
            Order.SERIAL,
            down=down,
            place=place if value == start else None,
            few=devices <= store.FEW_MOST,
            limit=limit - len(found),
        )
        if len(found) >= limit:
            break
    return found


def _page(items: list[ListedDevice], order: Order, inside: bool, more: bool, *, backwards: bool) -> ListPage:
    """Give cursors to both sides: where we came from there is a page, and ahead if one more row was found."""
    ahead, behind = (inside, more) if backwards else (more, inside)
    return ListPage(
        items=items,
        before=_cursor(items[0], order) if items and behind else None,
        after=_cursor(items[-1], order) if items and ahead else None,
    )


def _cursor(item: ListedDevice, order: Order) -> str:
    return encode_cursor(str(getattr(item, order.value)), item.serial)


async def count_fleet(session: Session, wanted: Filter) -> FleetCounts:
    """Count devices by facet; each facet's counts leave its own filter out, so that they say what else there is.

    A search cannot be counted ahead: its devices are, up to a number, and then all filters are applied.
    """
    await store.plan_each(session)
    search = bool(wanted.search)
    lines = await (store.facets_of_search if search else store.facets)(session, await settled(session, wanted))
    held: dict[str, list[FacetCount]] = {facet.value: [] for facet in Facet}
    total = 0
    for line in lines:
        if line["facet"]:
            held[line["facet"]].append(FacetCount(value=line["value"], devices=line["devices"]))
        else:
            total = int(line["devices"])
    return FleetCounts(total=total, whole=not search or total <= store.COUNTED_MOST, facets=held)


async def plan_fleet(session: Session, wanted: Filter, sites: int) -> Plan:
    """Return how many devices of each stratum run what and do how, at so many sites; of a filter its facets count."""
    whole, *cells = sorted(
        await store.plan(session, wanted, TROUBLES, sites), key=lambda line: line["site"] is not None
    )
    return Plan(whole["devices"], int(whole["content"]), [PlanCell(*line.values()) for line in cells])
