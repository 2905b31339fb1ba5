"""Where something came from (`up`) and what was made of it (`down`)."""

from typing import Annotated, Literal

from control_plane.kit.http import Depth, ViewerCall, router
from control_plane.lineage import service
from control_plane.lineage.domain import Kind, Node
from control_plane.lineage.schemas import LineageGraph

api = router("lineage", "/lineage")


@api.get("/{kind}/{name}", name="trace_lineage")
async def trace(
    kind: Kind,
    name: str,
    call: ViewerCall,
    direction: Literal["up", "down"] = "up",
    depth: Annotated[int, Depth] = 20,
) -> LineageGraph:
    """Walk the edges from one thing."""
    return await service.trace(call.session, Node(kind, name), down=direction == "down", depth=depth)
