"""The fleet: which devices there are, found and counted by what they are, run, do and wait for."""

from dataclasses import dataclass

from control_plane.fleet import service
from control_plane.fleet.domain import Facet, Health
from control_plane.fleet.schemas import FleetCounts, ViewPut
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Cursor, Response
from control_plane.kit.roles import Role
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.web.look import PARAMETERS, Look, look_at, look_in
from control_plane.web.names import Names, load_names

PAGE, NAME_MOST = 50, 60
SHOWN_VALUES = 8
COUNTS_S = 1.5
WORDS = {
    Facet.HEALTH: "Health",
    Facet.WAITING: "Waits for",
    Facet.CONTENT: "Version",
    Facet.SITE: "Site",
    Facet.DEVICE_CLASS: "Class",
}
fleet = pages()


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a facet; `href` chooses it, or drops it where it is chosen."""

    words: str
    devices: int
    href: str
    chosen: bool
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A facet with its values, the most frequent first; `more`: those that are folded away."""

    key: str
    words: str
    choices: list[Choice]
    more: list[Choice]


@fleet.get("/fleet")
async def show_fleet(call: SeeCall, after: Cursor = None, before: Cursor = None) -> Response:
    """Show the devices that the address asks for."""
    look = look_at(call.request.query_params)
    names, counts = await load_names(call), await counted(call, look)
    found = await service.list_fleet(
        call.session,
        look.wanted,
        look.order,
        falling=look.falling,
        after=after or None,
        before=before or None,
        limit=PAGE,
    )
    return call.show(
        "fleet.html",
        names=names,
        look=look,
        counts=counts,
        groups=[group_of(names, look, counts, facet) for facet in PARAMETERS],
        chosen=chips(names, look),
        found=found,
        views=await service.list_views(call.session, call.principal),
        may_act=call.may(Role.OPERATOR),
    )


async def counted(call: PageCall, look: Look) -> FleetCounts:
    """Count what a look leaves, at most some seconds ago."""
    key = ("fleet", look.search, tuple(sorted(look.facets.items())))
    return await call.desk.cache.get(key, COUNTS_S, lambda: service.count_fleet(call.session, look.wanted))


def group_of(names: Names, look: Look, counts: FleetCounts, facet: Facet) -> Group:
    """Lay out a facet; health keeps its own order, from good to bad, the others go by number."""
    lines = [(line.value, line.devices) for line in counts.facets[facet.value]]
    chosen = look.wanted.facets.get(facet)
    if chosen is not None and chosen not in dict(lines):
        lines.insert(0, (chosen, 0))
    if facet is Facet.HEALTH:
        ranks = {health.value: rank for rank, health in enumerate(Health)}
        lines.sort(key=lambda line: ranks.get(line[0], len(ranks)))
    if facet is Facet.WAITING:
        lines = [line for line in lines if line[0]]  # who waits for nothing is no answer to what is waited for
    choices = [_choice(names, look, facet, value, devices, chosen=value == chosen) for value, devices in lines]
    shown = sorted(choices, key=lambda choice: not choice.chosen)
    return Group(PARAMETERS[facet], WORDS[facet], shown[:SHOWN_VALUES], shown[SHOWN_VALUES:])


def _choice(names: Names, look: Look, facet: Facet, value: str, devices: int, *, chosen: bool) -> Choice:
    """Make a choice; one that is chosen leads back."""
    then = look.unset(facet) if chosen else look.set(facet, value)
    series = names.series(value) if facet is Facet.CONTENT else None
    return Choice(value_words(names, facet, value), devices, then.href(), chosen, series)


def value_words(names: Names, facet: Facet, value: str) -> str:
    if facet is Facet.CONTENT:
        return names.label(value or None)
    return value.replace("_", " ") if facet in (Facet.HEALTH, Facet.WAITING) else value


def chips(names: Names, look: Look) -> list[tuple[str, str, str]]:
    """Return (what, which, where it leads without it) of everything that is filtered by."""
    found = [("Begins with", look.search, look.unsearched().href())] if look.search else []
    for facet, value in look.wanted.facets.items():
        found.append((WORDS[facet], value_words(names, facet, value), look.unset(facet).href()))
    return found


@fleet.post("/fleet/views")
async def save_view(call: FormCall) -> Response:
    """Keep what the page shows under a name."""
    look = look_in(call.form.get("query", ""))
    name = " ".join(call.form.get("name", "").split())
    if not name or len(name) > NAME_MOST or not name.isprintable():
        raise Invalid("a view has a name of at most 60 characters")
    shared = call.form.get("shared") == "yes"
    await service.save_view(call.session, call.principal, ViewPut(name=name, query=look.query(), shared=shared))
    return call.back(look.href())


@fleet.post("/fleet/views/{view_id}/remove")
async def remove_view(view_id: str, call: FormCall) -> Response:
    await service.remove_view(call.session, call.principal, view_id)
    return call.back(look_in(call.form.get("query", "")).href())
