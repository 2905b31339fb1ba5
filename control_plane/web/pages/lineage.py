"""Lineage from any thing, both ways; what is shown stands in the address. And lineage taken away."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query
from markupsafe import Markup

from control_plane.exports import service as exports
from control_plane.exports.domain import OF_A_VERSION, Format
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.lineage import service
from control_plane.lineage.domain import Kind, Node
from control_plane.lineage.schemas import Direction, LineageEdgeItem, LineageGraph, LineageNode
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.kinship import MANY, Words, draw, family_of
from control_plane.web.labels import Labels, lineage_page, load_labels
from control_plane.web.names import load_names

KEPT_S = 10.0
SHOWN_EDGES = 200
NEAR, FAR = 4, 20
FORMATS = (
    (Format.OPENLINEAGE, "OpenLineage", "run events, one a line"),
    (Format.IN_TOTO, "in-toto", "a statement with SLSA provenance"),
    (Format.CYCLONEDX, "CycloneDX", "a bill of materials with a model card"),
)
lineage_pages = pages()


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody wants to see of one thing."""

    root: LineageNode
    direction: Direction
    depth: int
    kinds: tuple[Kind, ...]

    def address(self, **changes: object) -> str:
        """Return this look's address, with something else in it."""
        query = {"direction": self.direction, "depth": self.depth, "kind": self.kinds} | changes
        return f"{lineage_page(self.root)}?{urlencode(query, doseq=True)}"


@dataclass(frozen=True, slots=True)
class Found:
    """Both ways, as far as they were asked for; `first` are the edges that the table has room for."""

    picture: Markup | None
    first: tuple[LineageEdgeItem, ...]
    edges: int
    truncated: bool
    deeper: bool
    labels: Labels


async def _look(
    kind: Kind,
    name: str,
    direction: Direction = "both",
    depth: Annotated[int, Query(ge=1, le=FAR)] = NEAR,
    shown: Annotated[list[Kind] | None, Query(alias="kind", max_length=len(Kind))] = None,
) -> Look:
    # All of them is the same as none of them, and a shorter address.
    kinds = tuple(each for each in Kind if each in (shown or ()))
    return Look(LineageNode(kind=kind, name=name), direction, depth, () if len(kinds) == len(Kind) else kinds)


@lineage_pages.get("/lineage/{kind}/{name}")
async def show_lineage(call: SeeCall, look: Annotated[Look, Depends(_look)]) -> Response:
    found = await call.desk.cache.get(("lineage-page", look), KEPT_S, lambda: _find(call, look))
    return call.show(
        "lineage.html",
        look=look,
        found=found,
        kinds=[(kind, MANY[kind]) for kind in Kind],
        lineage_page=lineage_page,
        formats=formats_of(look.root.kind),
        far=FAR,
    )


def formats_of(kind: Kind) -> list[tuple[Format, str, str]]:
    """Return formats that a kind of thing can be exported in: value, name, what it is."""
    return [each for each in FORMATS if kind in OF_A_VERSION or each[0] is Format.OPENLINEAGE]


@lineage_pages.get("/lineage/{kind}/{name}/export")
async def export_lineage(
    kind: Kind,
    name: str,
    call: SeeCall,
    wanted: Annotated[Format, Query(alias="format")],
    depth: Annotated[int, Query(ge=1, le=FAR)] = FAR,
) -> Response:
    url, trains = call.context.settings.public_url, call.principal.role is Role.PIPELINE
    made = await exports.export(call.session, Node(kind, name), wanted, url=url, depth=depth, trains=trains)
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
    return Response(made.data, media_type=made.media_type, headers=headers)


async def _find(call: PageCall, look: Look) -> Found:
    up, down = [await _trace(call, look, way) for way in ("up", "down")]
    edges = [*dict.fromkeys([*up.edges, *down.edges])]
    first = edges[:SHOWN_EDGES]
    family = family_of(look.root, up.edges, down.edges)
    ends = {node for edge in first for node in (edge.source, edge.target)}
    nodes = ends | {look.root} | (family.shown if family else set())
    labels = await load_labels(call.session, await load_names(call), nodes)
    words = Words(labels.words, lineage_page, "#edges")
    return Found(
        picture=draw(family, f"Lineage of {labels[look.root]}", words),
        first=tuple(first),
        edges=len(edges),
        truncated=up.truncated or down.truncated,
        deeper=up.deeper or down.deeper,
        labels=labels,
    )


async def _trace(call: PageCall, look: Look, way: Direction) -> LineageGraph:
    """Walk one way; a thing that no edge names has no lineage yet, which is nothing wrong."""
    nothing = LineageGraph(root=look.root, edges=[], truncated=False, deeper=False)
    if look.direction not in (way, "both"):
        return nothing
    node = Node(look.root.kind, look.root.name)
    try:
        return await service.trace(call.session, node, down=way == "down", depth=look.depth, kinds=look.kinds)
    except NotFound:
        return nothing
