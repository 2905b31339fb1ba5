"""The fleet as a plan: every site with what runs there and what is wrong; one site device by device."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.fleet import service
from control_plane.fleet.domain import TROUBLES, Facet, Plan, PlanCell
from control_plane.fleet.schemas import ListedDevice
from control_plane.kit.http import Response
from control_plane.web.charts import NAMED_MOST, Cell, Share, blocks, named_cells, part_bar
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.look import Look, look_at
from control_plane.web.names import Names, load_names
from control_plane.web.pages.fleet import chips

SITES_MOST = 60
EACH_MOST = 1500
CELLS_ABOUT = 600
PLAN_S = 2.0
MARKS = [health.value for health in TROUBLES]
fleet_plan = pages()


@dataclass(frozen=True, slots=True)
class Site:
    """A site as a tile: `troubles` are the counts of what is wrong, the worst kind first."""

    name: str
    devices: int
    troubles: list[tuple[str, int]]
    bar: Markup
    href: str


@dataclass(frozen=True, slots=True)
class Hall:
    """The devices of one class at a site, drawn in blocks; `each` devices to a cell."""

    device_class: str
    devices: int
    each: int
    blocks: list[Markup]


@fleet_plan.get("/fleet/plan")
async def show_plan(call: SeeCall) -> Response:
    """Draw the sites that the address asks for, or the devices of one."""
    look = look_at(call.request.query_params).unsearched()
    names, plan = await load_names(call), await _plan(call, look)
    cells = plan.cells
    site = look.facets.get(Facet.SITE)
    sites = [] if site else sites_of(names, look, cells)
    halls = [] if site is None else await _halls(call, names, look, cells)
    contents = list(dict.fromkeys(c.content for c in sorted(cells, key=lambda c: -c.devices)))[:8]
    return call.show(
        "fleet_plan.html",
        look=look,
        site=site,
        sites=sites,
        more=plan.sites - len(sites),
        halls=halls,
        total=plan.devices,
        colours=[(names.label(content or None), names.series(content)) for content in contents],
        marks=MARKS,
        chosen=[chip for chip in chips(names, look) if chip[0] != "Site"],
    )


async def _plan(call: PageCall, look: Look) -> Plan:
    key = ("fleet-plan", tuple(sorted(look.facets.items())))
    return await call.desk.cache.get(key, PLAN_S, lambda: service.plan_fleet(call.session, look.wanted, SITES_MOST))


def sites_of(names: Names, look: Look, cells: Sequence[PlanCell]) -> list[Site]:
    """Make a tile for each site, those with most trouble first."""
    held: dict[str, list[PlanCell]] = {}
    for cell in cells:
        held.setdefault(cell.site, []).append(cell)
    made = [_site(names, look, name, those) for name, those in held.items()]
    return sorted(made, key=lambda site: (-sum(n for _, n in site.troubles), -site.devices, site.name))


def _site(names: Names, look: Look, name: str, cells: Sequence[PlanCell]) -> Site:
    devices = sum(c.devices for c in cells)
    wrong = Counter[str]()
    runs = Counter[str]()
    for cell in cells:
        runs[cell.content] += cell.devices
        if cell.health in TROUBLES:
            wrong[cell.health] += cell.devices
    shares = [
        Share(names.label(content or None), n, names.series(content), f"{n}") for content, n in runs.most_common()
    ]
    bar = part_bar(f"Versions at {name}", shares)
    href = f"/fleet/plan?{look.set(Facet.SITE, name).query()}"
    return Site(name, devices, [(kind, wrong[kind]) for kind in MARKS if wrong[kind]], bar, href)


async def _halls(call: PageCall, names: Names, look: Look, cells: Sequence[PlanCell]) -> list[Hall]:
    """Draw each device where they are not too many, else a cell for several that are alike."""
    total = sum(c.devices for c in cells)
    if total > EACH_MOST:
        return [_crowd(names, kind, those, total) for kind, those in _by_class(cells)]
    found = await service.list_fleet(call.session, look.wanted, limit=EACH_MOST)
    kinds = sorted({device.device_class for device in found.items})
    return [_each(names, kind, [d for d in found.items if d.device_class == kind]) for kind in kinds]


def _by_class(cells: Sequence[PlanCell]) -> Iterator[tuple[str, list[PlanCell]]]:
    for kind in sorted({cell.device_class for cell in cells}):
        yield kind, [cell for cell in cells if cell.device_class == kind]


def _each(names: Names, kind: str, devices: Sequence[ListedDevice]) -> Hall:
    cells = [
        Cell(
            names.series(device.content),
            device.health if device.health in TROUBLES else "",
            f"{device.serial}: {names.label(device.content or None)}, {device.health}",
            f"/fleet/{device.device_id}",
        )
        for device in devices
    ]
    if len(cells) <= NAMED_MOST:
        named = [(device.serial, cell) for device, cell in zip(devices, cells, strict=True)]
        return Hall(kind, len(devices), 1, named_cells(named))
    return Hall(kind, len(devices), 1, blocks(kind, cells))


def _crowd(names: Names, kind: str, cells: Sequence[PlanCell], total: int) -> Hall:
    """Draw a cell for each so many devices that run the same and do the same, and at least one: trouble is seen."""
    each = max(math.ceil(total / CELLS_ABOUT), 1)
    drawn: list[Cell] = []
    for cell in sorted(cells, key=lambda c: (c.health not in TROUBLES, c.content, c.health)):
        words = f"{names.label(cell.content or None)}, {cell.health}: {cell.devices} devices"
        mark = cell.health if cell.health in TROUBLES else ""
        drawn += [Cell(names.series(cell.content), mark, words)] * max(round(cell.devices / each), 1)
    return Hall(kind, sum(c.devices for c in cells), each, blocks(kind, drawn))
