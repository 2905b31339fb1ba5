"""What the fleet page is asked to show, as it stands in the page's address: every look at the fleet is a link."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, urlencode

from control_plane.fleet.domain import NO_MODEL, Facet, Filter, Health, Order
from control_plane.kit.errors import Invalid

LONGEST: Final = 200
FIELDS_MOST: Final = 20
PARAMETERS: Final[Mapping[Facet, str]] = {
    Facet.HEALTH: "health",
    Facet.WAITING: "waiting",
    Facet.CONTENT: "version",
    Facet.SITE: "site",
    Facet.DEVICE_CLASS: "class",
}
"""In the order in which the page shows them."""
SORTS: Final[Mapping[str, Order]] = {
    "serial": Order.SERIAL,
    "site": Order.SITE,
    "class": Order.DEVICE_CLASS,
    "version": Order.CONTENT,
    "health": Order.HEALTH,
}


@dataclass(frozen=True, slots=True)
class Look:
    """A filter and a sorting; `facets` are as the address writes them."""

    search: str = ""
    facets: Mapping[Facet, str] = field(default_factory=dict)
    sort: str = "serial"
    falling: bool = False

    @property
    def wanted(self) -> Filter:
        return Filter(self.search, {facet: _meant(facet, value) for facet, value in self.facets.items()})

    @property
    def order(self) -> Order:
        return SORTS[self.sort]

    @property
    def is_all(self) -> bool:
        return not self.search and not self.facets

    def fields(self) -> dict[str, str]:
        """Return what the address says, in one order, so that the same look is the same address."""
        found = {"q": self.search} if self.search else {}
        found |= {name: self.facets[facet] for facet, name in PARAMETERS.items() if facet in self.facets}
        if self.sort != "serial" or self.falling:
            found["sort"] = f"-{self.sort}" if self.falling else self.sort
        return found

    def query(self, **more: str) -> str:
        return urlencode(self.fields() | more)

    def href(self, **more: str) -> str:
        query = self.query(**more)
        return f"/fleet?{query}" if query else "/fleet"

    def set(self, facet: Facet, value: str) -> "Look":
        """Return this look with a facet chosen."""
        return replace(self, facets={**self.facets, facet: written(facet, value)})

    def unset(self, facet: Facet) -> "Look":
        return replace(self, facets={key: value for key, value in self.facets.items() if key is not facet})

    def unsearched(self) -> "Look":
        return replace(self, search="")

    def sorted_by(self, sort: str) -> "Look":
        """Return this look sorted so; once more by the same turns it round."""
        return replace(self, sort=sort, falling=sort == self.sort and not self.falling)

    def sorting(self, sort: str) -> str:
        """Say it for `aria-sort`."""
        return "none" if sort != self.sort else "descending" if self.falling else "ascending"


def look_at(parameters: Mapping[str, str]) -> Look:
    """Read a look from an address; what it does not know there it leaves alone, as forms send empty fields.

    Raises:
        Invalid: a value is no health, no sorting, or too long.
    """
    search = _short(parameters.get("q", "").strip())
    facets = {facet: _short(parameters[name]) for facet, name in PARAMETERS.items() if parameters.get(name)}
    if Facet.HEALTH in facets and facets[Facet.HEALTH] not in list(Health):
        raise Invalid(f"there is no health {facets[Facet.HEALTH][:40]!r}; there are {', '.join(Health)}")
    sort = parameters.get("sort") or "serial"
    if sort.removeprefix("-") not in SORTS:
        raise Invalid(f"devices are sorted by {', '.join(SORTS)}, not by {sort[:40]!r}")
    return Look(search, facets, sort.removeprefix("-"), sort.startswith("-"))


def look_in(query: str) -> Look:
    """Read a look from the query part of an address."""
    return look_at(dict(parse_qsl(query[: LONGEST * 6], max_num_fields=FIELDS_MOST)))


def _short(text: str) -> str:
    if len(text) > LONGEST or "\0" in text:
        raise Invalid(f"what is looked for has at most {LONGEST} characters, none of them zero")
    return text


def _meant(facet: Facet, value: str) -> str:
    return "" if facet is Facet.CONTENT and value == NO_MODEL else value


def written(facet: Facet, value: str) -> str:
    """Write a facet's value for an address, where an empty one would be no filter."""
    return NO_MODEL if facet is Facet.CONTENT and not value else value
