"""Write edges in the transaction of the thing they describe; answer where something came from and went to."""

from collections.abc import Iterable

from control_plane.kit.db import Session
from control_plane.kit.errors import NotFound
from control_plane.lineage import store
from control_plane.lineage.domain import Edge, Node
from control_plane.lineage.schemas import LineageEdgeItem, LineageGraph, LineageNode

MOST_EDGES = 5000


async def link(session: Session, target: Node, sources: Iterable[Node], relation: str) -> None:
    """Say that `target` came from each of `sources`; saying it again changes nothing."""
    edges = [Edge(source, target, relation) for source in sources]
    if edges:
        await store.insert_edges(session, edges)


async def link_all(session: Session, edges: list[Edge]) -> None:
    """Write many edges at once."""
    if edges:
        await store.insert_edges(session, edges)


async def is_known(session: Session, node: Node) -> bool:
    return await store.exists(session, node)


async def trace(session: Session, node: Node, *, down: bool, depth: int = 20) -> LineageGraph:
    found = await store.walk(session, node, down=down, depth=depth, most=MOST_EDGES)
    if not found and not await store.exists(session, node):
        raise NotFound(f"nothing is known of {node}")
    edges = [
        LineageEdgeItem(
            source=LineageNode(kind=edge["source_kind"], name=edge["source"]),
            target=LineageNode(kind=edge["target_kind"], name=edge["target"]),
            relation=edge["relation"],
            at=edge["at"],
        )
        for edge in found
    ]
    root = LineageNode(kind=node.kind, name=node.name)
    return LineageGraph(root=root, edges=edges, truncated=len(edges) >= MOST_EDGES)
