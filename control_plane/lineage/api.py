"""Where something came from (`up`), what was made of it (`down`), or both."""

from typing import Annotated

from fastapi import Query

from control_plane.kit.http import Depth, WideCall, router
from control_plane.lineage import service
from control_plane.lineage.domain import Kind, Node
from control_plane.lineage.schemas import Direction, LineageGraph

api = router("lineage", "/lineage")
Shown = Annotated[
    list[Kind] | None,
    Query(alias="kind", max_length=len(Kind), description="show only these kinds, and join what was between them"),
]


@api.get("/{kind}/{name}", name="trace_lineage")
async def trace(
    kind: Kind,
    name: str,
    call: WideCall,
    direction: Direction = "up",
    depth: Annotated[int, Depth] = 20,
    shown: Shown = None,
) -> LineageGraph:
    """Walk the edges from one thing."""
    return await service.trace_ways(call.session, Node(kind, name), direction, depth, shown or ())
